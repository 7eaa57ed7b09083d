"""INT8 graphs by post-training quantisation, and how near they come to their float twins.

The settings decide correctness: AVX2 kernels without VNNI add pairs of 8-bit products in 16 bits,
and saturate. With weights of 7 bits (`reduce_range`) they cannot. tests/reference/test_saturation.py
proves it on these very settings.

Run without arguments it makes the INT8 graphs of shipped.py. `--try NAME` quantises any float graph
whole, into build/onnx/try, and prints the figures: that is how it was decided what ships as INT8.

A layer between two quantised tensors cannot be kept float: ONNX Runtime 1.32's optimiser quantises
its weights after all, per tensor (its WeightBiasQuantization pass), which ruins depthwise layers.
Only layers whose output stays float, such as a head's last ones, are worth excluding.
"""

import argparse
import logging
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
from calibration import (
    CALIBRATION_VARIANTS,
    MEASUREMENT_VARIANTS,
    CalibrationReader,
    read_manifest,
    tensors,
)
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from paths import BUILD, INT8_GRAPHS
from session import open_session
from shipped import SHIPPED, Int8

INT8_SETTINGS = {
    "quant_format": QuantFormat.QDQ,
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt8,
    "per_channel": True,
    "reduce_range": True,
    "extra_options": {"WeightSymmetric": True, "ActivationSymmetric": False},
}
SLOWEST_SHARE = 0.8


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


def quantise(manifest: dict, source: Path, target: Path, int8: Int8) -> None:
    """Write the INT8 twin of a float graph, calibrated on real photos."""
    target.parent.mkdir(parents=True, exist_ok=True)
    inputs = islice(tensors(manifest, CALIBRATION_VARIANTS), int8.inputs_max)
    reader = CalibrationReader(manifest["input"]["tensor"], inputs)
    excluded = head_nodes(source) if int8.keep_head_float else []
    quantize_static(source, target, reader, nodes_to_exclude=excluded, **INT8_SETTINGS)


def run(graph: Path, inputs: Iterator[np.ndarray]) -> tuple[dict[str, np.ndarray], float]:
    """Return a graph's outputs (input x numbers, by name) and its usual CPU milliseconds."""
    session = open_session(graph)
    names = [output.name for output in session.get_outputs()]
    input_name = session.get_inputs()[0].name
    results, times = [], []
    for tensor in inputs:
        started = time.process_time()
        results.append(session.run(names, {input_name: tensor}))
        times.append(time.process_time() - started)
    outputs = {name: np.stack([result[i][0].reshape(-1) for result in results]) for i, name in enumerate(names)}
    # The median of the undisturbed runs.
    usual = np.median(sorted(times)[: max(1, int(len(times) * SLOWEST_SHARE))])
    return outputs, float(usual) * 1e3


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `a` with that of `b`."""
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def measure(manifest: dict, float_graph: Path, int8_graph: Path, inputs_max: int | None) -> float:
    """Print how the INT8 graph compares with the float one; return the lowest mean cosine."""
    inputs = list(islice(tensors(manifest, MEASUREMENT_VARIANTS), inputs_max))
    wanted, float_ms = run(float_graph, inputs)
    found, int8_ms = run(int8_graph, inputs)
    lowest = 1.0
    print(f"    {len(inputs)} inputs, FP32 {float_ms:.1f} ms, INT8 {int8_ms:.1f} ms a run", flush=True)
    for name, values in wanted.items():
        similar = cosines(values, found[name])
        lowest = min(lowest, float(similar.mean()))
        line = f"    {name}: cosine {similar.mean():.4f} (lowest {similar.min():.4f})"
        if values.shape[1] == 1:
            line += f", mean difference {np.abs(values - found[name]).mean():.3f}"
        elif "attributes" in manifest:
            agreement = (values.argmax(1) == found[name].argmax(1)).mean()
            line += f", same highest number {agreement:.1%}"
        print(line, flush=True)
    return lowest


def make_shipped(name: str, int8: Int8) -> None:
    """Make and check one shipped INT8 graph."""
    manifest = read_manifest(name)
    source, target = SHIPPED[name].float_graph(), SHIPPED[name].graph()
    print(f"  {name}", flush=True)
    quantise(manifest, source, target, int8)
    lowest = measure(manifest, source, target, int8.inputs_max)
    if not lowest >= int8.cosine_min:
        target.unlink()
        raise SystemExit(
            f"quantise: {name}: cosine {lowest:.4f} is below {int8.cosine_min}: the calibration "
            "photos or the quantiser have changed; correct them, or ship the float graph"
        )


def main() -> None:
    """Make all shipped INT8 graphs, or try one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--try", dest="attempt", metavar="NAME", help="a manifest of config/models")
    attempt = parser.parse_args().attempt
    logging.getLogger().setLevel(logging.ERROR)
    if attempt:
        manifest, source = read_manifest(attempt), SHIPPED[attempt].float_graph()
        target = BUILD / "onnx" / "try" / f"{attempt}.onnx"
        whole = Int8(cosine_min=0.0)
        quantise(manifest, source, target, whole)
        measure(manifest, source, target, whole.inputs_max)
        return
    INT8_GRAPHS.mkdir(parents=True, exist_ok=True)
    for name, model in SHIPPED.items():
        if model.int8:
            make_shipped(name, model.int8)


if __name__ == "__main__":
    main()
