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

import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from calibration import calibration_tensors, gate_tensors, read_manifest
from gate import INPUTS_MIN, Gate, Twin, measure
from onnx import helper, numpy_helper
from onnx_graph import LAYERS
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    create_calibrator,
    quantize_static,
)
from onnxruntime.quantization.calibrate import save_tensors_data
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
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
# TensorRT takes symmetric numbers alone, and biases as floats (docs/gpu.md), and saturates nowhere.
TENSORRT_SETTINGS = INT8_SETTINGS | {
    "activation_type": QuantType.QInt8,
    "reduce_range": False,
    "extra_options": {"WeightSymmetric": True, "ActivationSymmetric": True, "QuantizeBias": False},
}
# Of an activation's histogram, which grows as larger numbers come: entropy's time goes with the square.
BINS = 512
# ONNX Runtime gives entropy 128 bins, as many as quantised ones, which leaves it nothing to choose from.
METHODS = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"percentile": 99.99, "num_bins": 2048}),
    "entropy": (CalibrationMethod.Entropy, {"num_bins": BINS, "num_quantized_bins": 128}),
}
# Inputs whose activations are taken at once: more would have to be of one size, which graphs with NMS inside have not.
CHUNK = 1


class Reader(CalibrationDataReader):
    """Hands some tensors to ONNX Runtime's calibration."""

    def __init__(self, input_name: str, tensors: Iterable[np.ndarray]):
        """Feed `tensors` to the input of this name."""
        self._feeds = ({input_name: tensor} for tensor in tensors)

    def get_next(self) -> dict | None:
        """Return the next feed, or None at the end."""
        return next(self._feeds, None)


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


def settings(graph: Graph, target: str) -> dict:
    """Return the arguments of quantize_static."""
    base = TENSORRT_SETTINGS if target == "tensorrt" else INT8_SETTINGS
    eight_bits = {"axis": 0, "quant_type": QuantType.QInt8, "symmetric": True, "reduce_range": False}
    overrides = {weights: [eight_bits] for weights in graph.depthwise_weights}
    return base | {"extra_options": base["extra_options"] | {"TensorQuantOverrides": overrides}}


def calibrate(source: Path, ranges: Path, tensors: list[np.ndarray], method: str, target: str) -> None:
    """Write the range of each activation of a float graph, as one method sees it on `tensors`."""
    calibrate_method, options = METHODS[method]
    (given,) = onnx.load(source, load_external_data=False).graph.input
    if len(given.type.tensor_type.shape.dim) < 4:
        tensors = [tensor[0] for tensor in tensors]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        calibrator = create_calibrator(
            source,
            sorted({*QDQRegistry, *QLinearOpsRegistry}),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=calibrate_method,
            extra_options=options | {"symmetric": target == "tensorrt"},
        )
        for first in range(0, len(tensors), CHUNK):
            calibrator.collect_data(Reader(given.name, tensors[first : first + CHUNK]))
        if method == "entropy":
            histograms = calibrator.collector.histogram_dict
            histograms.update({name: _narrow(*histogram) for name, histogram in histograms.items()})
        save_tensors_data(calibrator.compute_data(), ranges)


def _narrow(counts: np.ndarray, edges: np.ndarray, *rest) -> tuple:
    """Return a histogram of BINS bins at most, over the same range."""
    if len(counts) <= BINS:
        return counts, edges, *rest
    middles = (edges[:-1] + edges[1:]) / 2
    return *np.histogram(middles, BINS, (edges[0], edges[-1]), weights=counts), *rest


def end_nodes(path: Path, layers_too: bool) -> list[str]:
    """Return the nodes between the last layers and the outputs, and these layers if wanted."""
    graph = onnx.load(path, load_external_data=False).graph
    makers = {output: node for node in graph.node for output in node.output}
    nodes, pending = set(), [output.name for output in graph.output]
    while pending:
        node = makers.get(pending.pop())
        if node is None or node.name in nodes:
            continue
        is_layer = node.op_type in LAYERS
        if layers_too or not is_layer:
            nodes.add(node.name)
        if not is_layer:
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


def left_float(source: Path, int8: Int8) -> list[str]:
    """Return the nodes of a float graph that its INT8 twin leaves float."""
    if unknown := set(int8.float_layers) - set(Graph.read(source).layers):
        raise ValueError(f"{source}: has no layers {sorted(unknown)}: correct float_layers")
    ends = end_nodes(source, int8.keep_head_float) if int8.keep_head_float or int8.keep_end_float else []
    return sorted({*with_followers(source, int8.float_layers), *ends})


def quantise(source: Path, target: Path, ranges: Path, int8: Int8, device: str = "cpu") -> None:
    """Write the INT8 twin of a float graph by the ranges that `calibrate` wrote for the method and the device."""
    excluded = left_float(source, int8)
    target.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger().setLevel(logging.ERROR)
    quantize_static(
        source,
        target,
        None,
        nodes_to_exclude=excluded,
        calibrate_method=METHODS[int8.method][0],
        calibration_cache_path=ranges,
        **settings(Graph.read(source), device),
    )
    if device == "cpu":
        shield(target, excluded)


def make_shipped(name: str, int8: Int8) -> Gate:
    """Make and check one shipped INT8 graph; its gate's result goes beside it."""
    manifest = read_manifest(name)
    source, target = SHIPPED[name].float_graph(), SHIPPED[name].graph()
    print(f"  {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        ranges = Path(folder) / "ranges.json"
        calibrate(source, ranges, calibration_tensors(manifest, int8.inputs_max), int8.method, "cpu")
        quantise(source, target, ranges, int8)
    twin = Twin(manifest, source, gate_tensors(manifest, INPUTS_MIN, int8.inputs_max), int8.random)
    gate = measure(twin, target, "cpu")
    print(gate.text(), flush=True)
    if not gate.passed:
        target.unlink()
        raise SystemExit(
            f"quantise: {name}: agreement {gate.agreement:.4f}: the calibration photos or the quantiser have "
            f"changed: search again with scripts/models/search_shipped.py {name}, or ship the float graph"
        )
    target.with_suffix(".json").write_text(json.dumps(gate.report(), indent=1) + "\n")
    target.with_suffix(".toml").write_text(gate.toml(), encoding="utf-8")
    return gate


def main() -> None:
    """Make all shipped INT8 graphs."""
    INT8_GRAPHS.mkdir(parents=True, exist_ok=True)
    for name, model in SHIPPED.items():
        if model.int8:
            make_shipped(name, model.int8)


if __name__ == "__main__":
    main()
