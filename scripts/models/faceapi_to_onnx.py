"""face-api's nets as ONNX: their weights are stored, their structure is code, written out here.

All take NCHW with a free batch size. Weights are stored as TensorFlow's HWIO.
"""

import json
from pathlib import Path

import numpy as np
from onnx_graph import GraphBuilder, same_padding
from weights import read_weights

NO_PADDING = (0, 0, 0, 0)
ONE_AROUND = (1, 1, 1, 1)
LEAKY_SLOPE = 0.1


def square_same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """Return TensorFlow's SAME padding of a square image as ONNX pads."""
    before, after = same_padding(size, kernel, stride)
    return before, before, after, after


class FaceApiNet:
    """A net under construction: its weights, and the layers that they share."""

    def __init__(self, folder: Path, model: str):
        """Read the weights of `model` in face-api's model folder."""
        groups = json.loads((folder / f"{model}-weights_manifest.json").read_text())
        self.weights = read_weights(groups, folder)
        self.onnx = GraphBuilder()

    def relu(self, x: str) -> str:
        """Add a ReLU."""
        return self.onnx.node("Relu", [x])

    def add(self, a: str, b: str) -> str:
        """Add two tensors."""
        return self.onnx.node("Add", [a, b])

    def convolution(self, x, filters, bias, stride=1, pads=NO_PADDING) -> str:
        """Add a convolution with HWIO filters."""
        weights = self.onnx.constant(filters.transpose(3, 2, 0, 1))
        return self._convolution(x, weights, bias, filters.shape[:2], stride, pads)

    def depthwise(self, x, filters, stride, pads) -> str:
        """Add a depthwise convolution with HWC1 filters."""
        weights = self.onnx.constant(filters.transpose(2, 3, 0, 1))
        channels = filters.shape[2]
        return self._convolution(x, weights, None, filters.shape[:2], stride, pads, channels)

    def _convolution(self, x, weights, bias, kernel, stride, pads, groups=1) -> str:
        inputs = [x, weights] + ([] if bias is None else [self.onnx.constant(bias.reshape(-1))])
        return self.onnx.node("Conv", inputs, kernel_shape=kernel, strides=[stride] * 2, pads=pads, group=groups)

    def named_convolution(self, x, name, stride=1, pads=NO_PADDING) -> str:
        """Add the convolution stored as `name/filters` and `name/bias`."""
        weights = self.weights
        return self.convolution(x, weights[f"{name}/filters"], weights[f"{name}/bias"], stride, pads)

    def separable(self, x, name, stride=1, size=None) -> str:
        """Add a depthwise and a pointwise 3x3 convolution with SAME padding.

        `size` is the input's side; only a stride above 1 needs it.
        """
        pads = ONE_AROUND if stride == 1 else square_same_padding(size, 3, stride)
        x = self.depthwise(x, self.weights[f"{name}/depthwise_filter"], stride, pads)
        pointwise = self.weights[f"{name}/pointwise_filter"]
        return self.convolution(x, pointwise, self.weights[f"{name}/bias"])

    def max_pool(self, x, kernel, stride, pads=NO_PADDING) -> str:
        """Add max pooling."""
        return self.onnx.node("MaxPool", [x], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    def global_average(self, x) -> str:
        """Reduce an image to one number a channel."""
        return self.onnx.node("Flatten", [self.onnx.node("GlobalAveragePool", [x])], axis=1)

    def dense(self, x, name) -> str:
        """Add the fully connected layer stored as `name/weights` and `name/bias`."""
        inputs = [self.weights[f"{name}/weights"], self.weights[f"{name}/bias"]]
        return self.onnx.node("Gemm", [x, *map(self.onnx.constant, inputs)])

    def save(self, path: Path, side: int, outputs: dict[str, tuple[str, list]]) -> None:
        """Write the model; `outputs` maps each output's name to its tensor and shape."""
        for name, (tensor, _) in outputs.items():
            self.onnx.rename(tensor, name)
        shapes = {name: ["N", *shape] for name, (_, shape) in outputs.items()}
        self.onnx.save(path, {"input": ["N", 3, side, side]}, shapes)


def tiny_face_detector(folder: Path, path: Path, side: int) -> None:
    """Tiny YOLOv2 for faces: 5 anchors of x, y, w, h, objectness in cells of 32 pixels."""
    net = FaceApiNet(folder, "tiny_face_detector_model")

    def leaky(x: str) -> str:
        return net.onnx.node("LeakyRelu", [x], alpha=LEAKY_SLOPE)

    x = leaky(net.named_convolution("input", "conv0"))
    size = side - 2
    for layer in range(1, 6):
        x = net.max_pool(x, 2, 2, square_same_padding(size, 2, 2))
        size = -(-size // 2)
        x = leaky(net.separable(x, f"conv{layer}"))
    x = net.max_pool(x, 2, 1, (0, 0, 1, 1))
    x = net.named_convolution(x, "conv8")
    net.save(path, side, {"output": (x, [25, size, size])})


def face_descriptor(folder: Path, path: Path) -> None:
    """Build dlib's ResNet34-derived face recognition net: 150x150 to a 128-d descriptor."""
    net = FaceApiNet(folder, "face_recognition_model")
    weights = net.weights

    def scaled_convolution(x, name, stride, pads) -> str:
        """Convolution, bias, then a scale and shift a channel, all in one convolution."""
        scale = weights[f"{name}/scale/weights"]
        filters = weights[f"{name}/conv/filters"] * scale
        bias = weights[f"{name}/conv/bias"] * scale + weights[f"{name}/scale/biases"]
        return net.convolution(x, filters, bias, stride, pads)

    def residual(x, name) -> str:
        y = net.relu(scaled_convolution(x, f"{name}/conv1", 1, ONE_AROUND))
        return net.relu(net.add(scaled_convolution(y, f"{name}/conv2", 1, ONE_AROUND), x))

    def zeros_behind(x, axis, count) -> str:
        pads = np.zeros(8, np.int64)
        pads[4 + axis] = count
        return net.onnx.node("Pad", [x, net.onnx.integers(pads)])

    def residual_down(x, name, size) -> tuple[str, int]:
        """Halve the image; the shortcut is averaged, and both sides are filled up with zeros."""
        channels_in, channels_out = weights[f"{name}/conv1/conv/filters"].shape[2:]
        y = net.relu(scaled_convolution(x, f"{name}/conv1", 2, NO_PADDING))
        y = scaled_convolution(y, f"{name}/conv2", 1, ONE_AROUND)
        shortcut = net.onnx.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
        for _ in range(size // 2 - ((size - 3) // 2 + 1)):
            y = zeros_behind(zeros_behind(y, 2, 1), 3, 1)
        if channels_in != channels_out:
            shortcut = zeros_behind(shortcut, 1, channels_out - channels_in)
        return net.relu(net.add(shortcut, y)), size // 2

    x = net.relu(scaled_convolution("input", "conv32_down", 2, NO_PADDING))
    x = net.max_pool(x, 3, 2)
    size = (((150 - 7) // 2 + 1) - 3) // 2 + 1
    stages = [("32", 3), ("64", 3), ("128", 2), ("256", 2)]
    for channels, blocks in stages:
        if channels != "32":
            x, size = residual_down(x, f"conv{channels}_down", size)
        for block in range(1, blocks + 1):
            x = residual(x, f"conv{channels}_{block}")
    x, size = residual_down(x, "conv256_down_out", size)
    x = net.onnx.node("MatMul", [net.global_average(x), net.onnx.constant(weights["fc"])])
    net.save(path, 150, {"descriptor": (x, [128])})


def age_and_gender(folder: Path, path: Path) -> None:
    """Build the tiny Xception of 112x112: age in years, probabilities of male and female."""
    net = FaceApiNet(folder, "age_gender_model")

    def reduction(x, name, size, activate_input) -> tuple[str, int]:
        y = net.relu(x) if activate_input else x
        y = net.separable(y, f"{name}/separable_conv0")
        y = net.separable(net.relu(y), f"{name}/separable_conv1")
        y = net.max_pool(y, 3, 2, square_same_padding(size, 3, 2))
        shortcut = net.named_convolution(x, f"{name}/expansion_conv", stride=2)
        return net.add(y, shortcut), -(-size // 2)

    pads = square_same_padding(112, 3, 2)
    x = net.relu(net.named_convolution("input", "entry_flow/conv_in", 2, pads))
    x, size = reduction(x, "entry_flow/reduction_block_0", 56, activate_input=False)
    x, size = reduction(x, "entry_flow/reduction_block_1", size, activate_input=True)
    for block in range(2):
        y = x
        for layer in range(3):
            name = f"middle_flow/main_block_{block}/separable_conv{layer}"
            y = net.separable(net.relu(y), name)
        x = net.add(y, x)
    x, size = reduction(x, "exit_flow/reduction_block", size, activate_input=True)
    x = net.global_average(net.relu(net.separable(x, "exit_flow/separable_conv")))
    gender = net.onnx.node("Softmax", [net.dense(x, "fc/gender")], axis=1)
    net.save(path, 112, {"age": (net.dense(x, "fc/age"), [1]), "gender": (gender, [2])})


def face_expression(folder: Path, path: Path) -> None:
    """Four dense blocks of separable convolutions at 112x112: probabilities of 7 expressions."""
    net = FaceApiNet(folder, "face_expression_model")
    x, size = "input", 112
    for block in range(4):
        name = f"dense{block}"
        if block == 0:
            first = net.named_convolution(x, f"{name}/conv0", 2, square_same_padding(size, 3, 2))
        else:
            first = net.separable(x, f"{name}/conv0", 2, size)
        first, size = net.relu(first), -(-size // 2)
        total = net.add(first, net.separable(first, f"{name}/conv1"))
        total = net.add(total, net.separable(net.relu(total), f"{name}/conv2"))
        x = net.relu(net.add(total, net.separable(net.relu(total), f"{name}/conv3")))
    logits = net.dense(net.global_average(x), "fc")
    net.save(path, 112, {"expression": (net.onnx.node("Softmax", [logits], axis=1), [7])})
