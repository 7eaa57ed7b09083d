"""The paper's models with random weights: right for speed, never for accuracy.

No pretrained ResNet18 detector exists in the package registries, and no ResNet of attributes. These
graphs have the shapes of such, so that their throughput is that of trained ones. Their boxes, scores
and classes mean nothing.

- A ResNet18 detector of 4 classes at 416 (6.86 GMAC: a head of a 3x3 and a 1x1 convolution on each
  of the last two stages).
- ResNet18 and ResNet34 classifiers at 224 (1.81 and 3.66 GMAC: average pooling and one dense layer).

And one that does nothing: what a pipeline costs that has it is the pipeline's own.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto
from onnx_graph import GraphBuilder

STAGES = [64, 128, 256, 512]
RESNET18 = [2, 2, 2, 2]
RESNET34 = [3, 4, 6, 3]
HEAD_CHANNELS = 256
ANCHORS = 3
CLASSES = 4
DETECTOR_SEED = 20_240_416
ATTRIBUTE_CLASSES = 8


class RandomResNet:
    """ResNet layers with random weights, scaled so that activations neither vanish nor explode."""

    def __init__(self, blocks: list[int], seed: int):
        """Start an empty graph of so many blocks a stage."""
        self.onnx = GraphBuilder()
        self.random = np.random.default_rng(seed)
        self.blocks = blocks

    def convolution(self, x, channels_in, channels_out, kernel, stride=1, gain=1.0) -> str:
        """Add a convolution with He-scaled weights that differ in size from channel to channel.

        The spread imitates nets whose batch normalisation was folded into the weights.
        """
        shape = (channels_out, channels_in, kernel, kernel)
        scale = gain * np.sqrt(2 / (channels_in * kernel * kernel))
        spread = np.exp(0.3 * self.random.standard_normal((channels_out, 1, 1, 1)))
        weights = (self.random.standard_normal(shape) * scale * spread).astype(np.float32)
        bias = (self.random.standard_normal(channels_out) * 0.1).astype(np.float32)
        return self.onnx.node(
            "Conv",
            [x, self.onnx.constant(weights), self.onnx.constant(bias)],
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
        )

    def relu(self, x: str) -> str:
        """Add a ReLU."""
        return self.onnx.node("Relu", [x])

    def block(self, x, channels_in, channels_out, stride) -> str:
        """Add a basic block: two 3x3 convolutions and a shortcut."""
        y = self.relu(self.convolution(x, channels_in, channels_out, 3, stride))
        y = self.convolution(y, channels_out, channels_out, 3, gain=0.5)
        if stride != 1 or channels_in != channels_out:
            x = self.convolution(x, channels_in, channels_out, 1, stride, gain=0.7)
        return self.relu(self.onnx.node("Add", [y, x]))

    def backbone(self, x: str) -> list[str]:
        """Add the trunk; return the output of each stage (strides 4, 8, 16 and 32)."""
        x = self.relu(self.convolution(x, 3, STAGES[0], 7, stride=2))
        x = self.onnx.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        channels_in, outputs = STAGES[0], []
        for stage, channels in enumerate(STAGES):
            for block in range(self.blocks[stage]):
                stride = 2 if block == 0 and stage > 0 else 1
                x = self.block(x, channels_in, channels, stride)
                channels_in = channels
            outputs.append(x)
        return outputs


def random_resnet18_detector(path: Path, side: int) -> None:
    """Write the detector: `out0` at stride 16 and `out1` at stride 32.

    Each anchor has channels x, y, w, h, objectness, then one a class.
    """
    net = RandomResNet(RESNET18, DETECTOR_SEED)
    stages = net.backbone("input")
    channels_out = ANCHORS * (5 + CLASSES)
    outputs = {}
    for number, stage in enumerate((2, 3)):
        y = net.relu(net.convolution(stages[stage], STAGES[stage], HEAD_CHANNELS, 3))
        y = net.convolution(y, HEAD_CHANNELS, channels_out, 1, gain=0.5)
        size = side // (16, 32)[number]
        outputs[net.onnx.rename(y, f"out{number}")] = ["N", channels_out, size, size]
    net.onnx.save(path, {"input": ["N", 3, side, side]}, outputs)


def random_classifier(path: Path, side: int, blocks: list[int], seed: int) -> None:
    """Write a classifier: `logits`, one a class."""
    net = RandomResNet(blocks, seed)
    *_, stage = net.backbone("input")
    pooled = net.onnx.node("Flatten", [net.onnx.node("GlobalAveragePool", [stage])])
    weights = net.random.standard_normal((STAGES[-1], ATTRIBUTE_CLASSES)) / np.sqrt(STAGES[-1])
    bias = np.zeros(ATTRIBUTE_CLASSES, np.float32)
    dense = [net.onnx.constant(weights.astype(np.float32)), net.onnx.constant(bias)]
    logits = net.onnx.rename(net.onnx.node("Gemm", [pooled, *dense]), "logits")
    net.onnx.save(path, {"input": ["N", 3, side, side]}, {logits: ["N", ATTRIBUTE_CLASSES]})


def no_operation(path: Path, side: int) -> None:
    """Write a detector that looks at a frame's first byte alone: its part of 255 is the score of its one box.

    The input is uint8, rows of pixels: what a raw frame's bytes are. `boxes` covers the frame.
    """
    onnx = GraphBuilder()
    first = onnx.node("Slice", ["input", onnx.integers([0] * 3), onnx.integers([1] * 3), onnx.integers([1, 2, 3])])
    level = onnx.node("Cast", [first], to=TensorProto.FLOAT)
    score = onnx.node("Mul", [level, onnx.constant(np.float32(1 / 255))])
    scores = onnx.rename(onnx.node("Reshape", [score, onnx.integers([0, 1, 1])]), "scores")
    nothing = onnx.node("Mul", [scores, onnx.constant(np.zeros((1, 1, 4), np.float32))])
    whole = onnx.constant(np.array([[[0.5, 0.5, 1, 1]]], np.float32))
    boxes = onnx.rename(onnx.node("Add", [nothing, whole]), "boxes")
    shapes = {boxes: ["N", 1, 4], scores: ["N", 1, 1]}
    onnx.save(path, {"input": ["N", side, side, 3]}, shapes, levels=("input",))
