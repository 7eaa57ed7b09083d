"""The quantiser's settings never saturate: a convolution of all-ones gives the number that it must.

AVX2 without VNNI multiplies 8-bit numbers with `maddubs`, which adds pairs of products in 16 bits.
255 x 127 twice does not fit, and the result is silently wrong; random weights do not show it.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_graph import GraphBuilder
from onnxruntime.quantization import quantize_static
from quantise import INT8_SETTINGS, Reader, calibrate, quantise
from shipped import Int8

CHANNELS = 64
TRUE_SUM = CHANNELS * 3 * 3
WEIGHT_MAX = 64  # 2 x 255 x 64 fits 16 bits, 2 x 255 x 127 does not.


def cpu_has_vnni() -> bool:
    """Say whether the CPU adds four 8-bit products in 32 bits, and so cannot saturate."""
    flags = Path("/proc/cpuinfo").read_text().split() if sys.platform == "linux" else []
    return bool({"avx512_vnni", "avx_vnni"} & set(flags))


def is_depthwise(node: onnx.NodeProto, weights: onnx.TensorProto) -> bool:
    """Say whether a convolution has as many groups as channels."""
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return groups == weights.dims[0] and weights.dims[1] == 1


def made(source: Path, target: Path, image: np.ndarray, int8: Int8) -> None:
    """Quantise as the project does, calibrated on one image."""
    ranges = target.with_suffix(".ranges")
    calibrate(source, ranges, [image], int8.method, "cpu")
    quantise(source, target, ranges, int8)


def depthwise_sum(folder: Path) -> tuple[float, float]:
    """Quantise a depthwise 3x3 convolution by the project's settings; return a number and the largest weight."""
    builder = GraphBuilder()
    weights = builder.constant(np.ones((CHANNELS, 1, 3, 3), np.float32))
    bias = builder.constant(np.zeros(CHANNELS, np.float32))
    output = builder.node("Conv", ["input", weights, bias], kernel_shape=[3, 3], group=CHANNELS)
    source, target = folder / "float.onnx", folder / "int8.onnx"
    builder.save(source, {"input": [1, CHANNELS, 20, 20]}, {output: [1, CHANNELS, 18, 18]})
    image = np.ones((1, CHANNELS, 20, 20), np.float32)
    image[0, 0, 0, 0] = 0
    made(source, target, image, Int8())
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"input": image})
    tensors = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(target).graph.initializer]
    weights = [tensor.astype(int) for tensor in tensors if tensor.dtype == np.int8 and tensor.ndim == 4]
    return float(result[0, 5, 9, 9]), float(np.abs(weights[0]).max())


def test_depthwise_weights_of_eight_bits_do_not_saturate(tmp_path):
    """Depthwise kernels add in 32 bits, on CPUs without VNNI too."""
    total, largest = depthwise_sum(tmp_path)
    assert largest > WEIGHT_MAX
    assert total == pytest.approx(9, rel=0.01)


def test_a_float_layer_is_dequantised_for_by_channel(tmp_path):
    """The optimiser quantises what follows a dequantisation by one scale, so a float layer gets one by channel."""
    builder = GraphBuilder()
    same = builder.constant(np.eye(CHANNELS, dtype=np.float32)[:, :, None, None])
    first = builder.node("Conv", ["input", same], kernel_shape=[1, 1])
    middle = builder.node("Conv", [first, builder.constant(np.ones((CHANNELS, 1, 1, 1), np.float32))], group=CHANNELS)
    last = builder.node("Conv", [middle, same], kernel_shape=[1, 1])
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    builder.save(source, {"input": [1, CHANNELS, 8, 8]}, {last: [1, CHANNELS, 8, 8]})
    kept = onnx.load(source).graph.node[1].name
    image = np.linspace(0, 1, CHANNELS * 64, dtype=np.float32).reshape(1, CHANNELS, 8, 8)
    made(source, target, image, Int8(float_layers=(kept,)))

    graph = onnx.load(target).graph
    (layer,) = (node for node in graph.node if node.name == kept)
    (shield,) = (node for node in graph.node if layer.input[0] in node.output)
    scales = {tensor.name: tensor.dims for tensor in graph.initializer}
    assert shield.op_type == "DequantizeLinear"
    assert list(scales[shield.input[1]]) == [CHANNELS]
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"input": image})
    assert result == pytest.approx(image, abs=0.02)


def quantised_sum(folder: Path, **changes) -> float:
    """Quantise a 3x3 convolution with weights of 1, run it on an image of 1; return a number."""
    builder = GraphBuilder()
    weights = builder.constant(np.ones((CHANNELS, CHANNELS, 3, 3), np.float32))
    bias = builder.constant(np.zeros(CHANNELS, np.float32))
    output = builder.node("Conv", ["input", weights, bias], kernel_shape=[3, 3])
    source, target = folder / "float.onnx", folder / "int8.onnx"
    builder.save(source, {"input": [1, CHANNELS, 20, 20]}, {output: [1, CHANNELS, 18, 18]})
    image = np.ones((1, CHANNELS, 20, 20), np.float32)
    image[0, 0, 0, 0] = 0  # The range of the activations is 0 to 1.
    quantize_static(source, target, Reader("input", [image]), **(INT8_SETTINGS | changes))
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"input": image})
    return float(result[0, 5, 9, 9])


def test_the_projects_settings_do_not_saturate(tmp_path):
    """All products add up."""
    assert quantised_sum(tmp_path) == pytest.approx(TRUE_SUM, rel=0.01)


@pytest.mark.skipif(cpu_has_vnni(), reason="this CPU has VNNI, which cannot saturate")
def test_weights_of_eight_bits_would_saturate_here(tmp_path):
    """The test above means something: without reduce_range it fails on this CPU."""
    assert quantised_sum(tmp_path, reduce_range=False) < 0.9 * TRUE_SUM


def test_no_shipped_graph_has_weights_that_could_saturate(models):
    """Every 8-bit weight lies within 7 bits, those of depthwise layers aside, whose kernel adds in 32 bits."""
    quantised = 0
    for path in sorted(models.glob("*/*/model.onnx")):
        if 'target = "tensorrt"' in path.with_name("manifest.toml").read_text():
            continue  # it is never run on a CPU
        graph = onnx.load(path).graph
        constants = {tensor.name: tensor for tensor in graph.initializer}
        readers = {node.input[1]: node for node in graph.node if node.op_type == "Conv"}
        for node in graph.node:
            stored = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
            if stored is None or stored.data_type != onnx.TensorProto.INT8:
                continue
            reader = readers.get(node.output[0])
            if reader is not None and is_depthwise(reader, stored):
                continue
            weights = onnx.numpy_helper.to_array(stored).astype(int)
            assert np.abs(weights).max() <= WEIGHT_MAX, f"{path}: {stored.name}"
            quantised += 1
    assert quantised > 0, f"{models}: holds no INT8 graph"
