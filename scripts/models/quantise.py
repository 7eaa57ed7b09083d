"""INT8 graphs by post-training quantisation, and how near they come to their float twins.

The settings decide correctness: AVX2 kernels without VNNI add pairs of 8-bit products in 16 bits,
and saturate. With weights of 7 bits (`reduce_range`) they cannot. tests/reference/test_saturation.py
proves it on these very settings.

Run without arguments it makes the INT8 graphs of shipped.py, and fails where one agrees with its float
twin less than agreement.GATE. `--try NAME` quantises any float graph whole, into build/onnx/try, and
`--report FILE` compares the INT8 graphs that are there and writes the table of docs/int8.md.

A layer between two quantised tensors stays float only where ONNX Runtime's optimiser may not quantise
its weights after all, per tensor (its WeightBiasQuantization pass), which ruins depthwise layers. Here
and in the stages that pass is off.
"""

import argparse
import logging
from itertools import islice
from pathlib import Path

import onnx
from agreement import GATE, Comparison, compare
from calibration import CALIBRATION_VARIANTS, CalibrationReader, read_manifest, tensors
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from paths import BUILD, INT8_GRAPHS
from shipped import SHIPPED, Int8

INT8_SETTINGS = {
    "quant_format": QuantFormat.QDQ,
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt8,
    "per_channel": True,
    "reduce_range": True,
    "extra_options": {"WeightSymmetric": True, "ActivationSymmetric": False},
}
# Nodes with weights.
LAYERS = ("Conv", "Gemm", "MatMul")


def head_nodes(path: Path) -> list[str]:
    """Return the nodes from the last convolution of each output to that output."""
    graph = onnx.load(path, load_external_data=False).graph
    makers = {output: node for node in graph.node for output in node.output}
    nodes, pending = set(), [output.name for output in graph.output]
    while pending:
        node = makers.get(pending.pop())
        if node is None or node.name in nodes:
            continue
        nodes.add(node.name)
        if node.op_type != "Conv":
            pending.extend(node.input)
    return sorted(nodes)


def excluded_nodes(source: Path, int8: Int8) -> list[str]:
    """Return the nodes that stay float."""
    return [*int8.float_nodes, *(head_nodes(source) if int8.keep_head_float else [])]


def quantise(manifest: dict, source: Path, target: Path, int8: Int8) -> None:
    """Write the INT8 twin of a float graph, calibrated on real photos."""
    target.parent.mkdir(parents=True, exist_ok=True)
    inputs = islice(tensors(manifest, CALIBRATION_VARIANTS), int8.inputs_max)
    reader = CalibrationReader(manifest["input"]["tensor"], inputs)
    excluded = excluded_nodes(source, int8)
    quantize_static(source, target, reader, nodes_to_exclude=excluded, **INT8_SETTINGS)


def tell(comparison: Comparison) -> None:
    """Print what a comparison came to."""
    count, float_ms, int8_ms = comparison.inputs, comparison.float_ms, comparison.int8_ms
    print(f"    {count} inputs, FP32 {float_ms:.1f} ms, INT8 {int8_ms:.1f} ms a run", flush=True)
    for agreement in comparison.agreements:
        print(f"    {agreement}", flush=True)


def note(name: str, comparison: Comparison) -> None:
    """Write what becomes [quantized] of the manifest."""
    worst = min(comparison.agreements, key=lambda agreement: agreement.value)
    float_layers, layers = float_share(name)
    SHIPPED[name].gate_note().write_text(
        f'\n[quantized]\nagreement = {worst.value:.4f}\nmeasure = "{worst.measure} of {worst.output}"\n'
        f"inputs = {comparison.inputs}\nfloat_layers = {float_layers}\nlayers = {layers}\n"
    )


def float_share(name: str) -> tuple[int, int]:
    """Return how many layers of a shipped INT8 graph are float, and how many there are."""
    source, int8 = SHIPPED[name].float_graph(), SHIPPED[name].int8
    layers = [node.name for node in onnx.load(source).graph.node if node.op_type in LAYERS]
    excluded = excluded_nodes(source, int8)
    return sum(layer in excluded for layer in layers), len(layers)


def make_shipped(name: str, int8: Int8) -> None:
    """Make and check one shipped INT8 graph."""
    manifest = read_manifest(name)
    source, target = SHIPPED[name].float_graph(), SHIPPED[name].graph()
    print(f"  {name}", flush=True)
    quantise(manifest, source, target, int8)
    comparison = compare(manifest, source, target, int8.inputs_max)
    tell(comparison)
    if not comparison.worst() >= GATE:
        target.unlink()
        raise SystemExit(
            f"quantise: {name} agrees with its float twin to {comparison.worst():.4f} only, and {GATE} is "
            "asked: the calibration photos or the quantiser have changed; keep more layers float, or ship "
            "the float graph (scripts/models/shipped.py)"
        )
    note(name, comparison)


def report(path: Path) -> None:
    """Write what the shipped INT8 graphs come to, as a Markdown table."""
    lines = [
        "| model | float layers | inputs | agreement with its float twin | INT8 over FP32, time | size, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, model in SHIPPED.items():
        if model.int8 is None:
            continue
        manifest, source, target = read_manifest(name), model.float_graph(), model.graph()
        comparison = compare(manifest, source, target, model.int8.inputs_max)
        print(f"  {name}", flush=True)
        tell(comparison)
        stay_float, layers = float_share(name)
        sizes = [graph.stat().st_size / 1e6 for graph in (target, source)]
        agreements = "; ".join(map(str, comparison.agreements))
        lines.append(
            f"| {name} | {stay_float} of {layers} | {comparison.inputs} | {agreements} | "
            f"{comparison.int8_ms / comparison.float_ms:.2f} | {sizes[0]:.1f} of {sizes[1]:.1f} |"
        )
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Make all shipped INT8 graphs, try one, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--try", dest="attempt", metavar="NAME", help="a manifest of config/models")
    parser.add_argument("--report", metavar="FILE", type=Path, help="where to write the table")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    if arguments.attempt:
        manifest, source = read_manifest(arguments.attempt), SHIPPED[arguments.attempt].float_graph()
        target = BUILD / "onnx" / "try" / f"{arguments.attempt}.onnx"
        quantise(manifest, source, target, Int8())
        tell(compare(manifest, source, target, None))
        return
    if arguments.report:
        report(arguments.report)
        return
    INT8_GRAPHS.mkdir(parents=True, exist_ok=True)
    for name, model in SHIPPED.items():
        if model.int8:
            make_shipped(name, model.int8)


if __name__ == "__main__":
    main()
