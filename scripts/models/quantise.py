"""INT8 graphs by post-training quantisation: the settings of one graph, applied.

The settings decide correctness. AVX2 kernels without VNNI add pairs of 8-bit products in 16 bits,
and saturate; with weights of 7 bits (`reduce_range`) they cannot. Depthwise layers have kernels of
their own that add in 32 bits, so their weights keep 8 bits, which is what they need.
tests/reference/test_saturation.py proves both on these very settings.

A float layer between two quantised tensors would be quantised after all by ONNX Runtime 1.32's
optimiser (its WeightBiasQuantization pass), per tensor, which ruins depthwise layers. The pass looks
for inputs dequantised by one scale; so `shield` gives each float layer a dequantisation of its own
with the same scale for each channel: the same numbers, and nothing to find.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from calibration import CalibrationReader, calibration_tensors, gate_tensors, read_manifest
from gate import INPUTS_MIN, Gate, measure
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from paths import INT8_GRAPHS
from shipped import SHIPPED, Int8

INT8_SETTINGS = {
    "quant_format": QuantFormat.QDQ,
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt8,
    "per_channel": True,
    "reduce_range": True,
    "extra_options": {"WeightSymmetric": True, "ActivationSymmetric": False},
}
# TensorRT takes symmetric numbers alone, and saturates nowhere.
TENSORRT_SETTINGS = INT8_SETTINGS | {
    "activation_type": QuantType.QInt8,
    "reduce_range": False,
    "extra_options": {"WeightSymmetric": True, "ActivationSymmetric": True},
}
METHODS = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"CalibPercentile": 99.99}),
    "entropy": (CalibrationMethod.Entropy, {}),
}
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Graph:
    """A float graph's layers: names of nodes that have weights, in order, and weights of depthwise ones."""

    layers: tuple[str, ...]
    depthwise_weights: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "Graph":
        """Read a graph."""
        nodes = onnx.load(path).graph.node
        layers = tuple(node.name for node in nodes if node.op_type in LAYERS)
        return cls(layers, tuple(node.input[1] for node in nodes if node.op_type == "Conv" and _group(node) > 1))


def _group(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def settings(graph: Graph, method: str, target: str) -> dict:
    """Return the arguments of quantize_static."""
    base = TENSORRT_SETTINGS if target == "tensorrt" else INT8_SETTINGS
    calibrate_method, options = METHODS[method]
    eight_bits = {"axis": 0, "quant_type": QuantType.QInt8, "symmetric": True, "reduce_range": False}
    overrides = {weights: [eight_bits] for weights in graph.depthwise_weights}
    options = base["extra_options"] | options | {"TensorQuantOverrides": overrides}
    return base | {"calibrate_method": calibrate_method, "extra_options": options}


def head_layers(path: Path) -> list[str]:
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


def with_followers(path: Path, float_layers: Iterable[str]) -> list[str]:
    """Return the float layers and the nodes without weights that read nothing but what they make."""
    chosen = set(float_layers)
    graph = onnx.load(path, load_external_data=False).graph
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        sources = [makers[name].name for name in node.input if name in makers]
        if node.op_type not in LAYERS and sources and chosen.issuperset(sources):
            chosen.add(node.name)
    return [node.name for node in graph.node if node.name in chosen]


def shield(path: Path, float_layers: Iterable[str]) -> None:
    """Keep the optimiser from quantising the float layers of a quantised graph."""
    model = onnx.load(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    nodes = []
    for node in model.graph.node:
        maker = makers.get(node.input[0]) if node.input else None
        if node.name in set(float_layers) and node.op_type == "Conv" and maker and maker.op_type == "DequantizeLinear":
            channels = constants[node.input[1]].dims[1] * _group(node)
            names = [f"{node.name}/shield/{part}" for part in ("scale", "zero_point", "output")]
            for name, source in zip(names, maker.input[1:3], strict=False):
                value = numpy_helper.to_array(constants[source])
                model.graph.initializer.append(numpy_helper.from_array(np.full(channels, value, value.dtype), name))
            nodes.append(helper.make_node("DequantizeLinear", [maker.input[0], *names[:2]], names[2:], axis=1))
            nodes[-1].name = f"{node.name}/shield"
            node.input[0] = names[2]
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


def quantise(
    source: Path,
    target: Path,
    inputs: Iterable[np.ndarray],
    int8: Int8,
    input_name: str,
    device: str = "cpu",
    ranges: Path | None = None,
) -> None:
    """Write the INT8 twin of a float graph, calibrated on `inputs`, or by the `ranges` that an earlier call wrote."""
    graph = Graph.read(source)
    excluded = with_followers(source, int8.float_layers) + (head_layers(source) if int8.keep_head_float else [])
    if unknown := set(int8.float_layers) - {node.name for node in onnx.load(source).graph.node}:
        raise ValueError(f"{source}: has no layers {sorted(unknown)}: correct float_layers")
    target.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger().setLevel(logging.ERROR)
    quantize_static(
        source,
        target,
        CalibrationReader(input_name, iter(inputs)),
        nodes_to_exclude=excluded,
        calibration_cache_path=ranges,
        **settings(graph, int8.method, device),
    )
    shield(target, excluded)


def make_shipped(name: str, int8: Int8) -> Gate:
    """Make and check one shipped INT8 graph; its gate's result goes beside it."""
    manifest = read_manifest(name)
    source, target = SHIPPED[name].float_graph(), SHIPPED[name].graph()
    print(f"  {name}", flush=True)
    quantise(source, target, calibration_tensors(manifest, int8.inputs_max), int8, manifest["input"]["tensor"])
    inputs = gate_tensors(manifest, int8.inputs_max or INPUTS_MIN)
    gate = measure(manifest, source, target, inputs, int8)
    print(gate.text(), flush=True)
    if not gate.passed:
        target.unlink()
        raise SystemExit(
            f"quantise: {name}: agreement {gate.agreement:.4f}: the calibration photos or the quantiser have "
            f"changed: search again with `framepipe model quantize {name}`, or ship the float graph"
        )
    target.with_suffix(".toml").write_text(gate.toml())
    return gate


def main() -> None:
    """Make all shipped INT8 graphs."""
    INT8_GRAPHS.mkdir(parents=True, exist_ok=True)
    for name, model in SHIPPED.items():
        if model.int8:
            make_shipped(name, model.int8)


if __name__ == "__main__":
    main()
