"""Layers of real detectors, with weights by which a painted object is found.

A graph has the layers, depths and scales of its architecture, few channels, and two kinds of weights in each layer.
Most are random. Four channels, a feature's `slots`, are not: two carry how red and how green a place is, unchanged
through every layer (identity taps; averages of the pixels a stride passes over), and two are for the head, which makes
of them

    mean      of the 3x3 cells about a cell
    surround  that mean less the mean of the nine means about it

which is highest at the centre of an object of 3.5 cells (`SIZE`), lower beside it, and near zero within a larger or
upon a smaller one. So each stride finds the objects of its size, of either class, wherever they overlap: red and green
are painted into channels of their own.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts" / "models"))
from onnx_graph import GraphBuilder

LABELS = ["red", "green"]
# Side of the objects that a stride finds, in its cells.
SIZE = 3.5
# An object's centre makes more than this of `surround`, and nothing else does.
CENTRE = 0.235
# Red, green, and two that the head uses.
SLOTS = (0, 1, 2, 3)

KEEP = ((0, 0, "keep"), (1, 1, "keep"))
TWICE = (*KEEP, (2, 0, "keep"), (3, 1, "keep"))
MEAN = (*KEEP, (2, 0, "mean"), (3, 1, "mean"))
PASS = (*KEEP, (2, 2, "keep"), (3, 3, "keep"))
SURROUND = (*KEEP, (2, 2, "surround"), (3, 3, "surround"))
NOTHING = ()


@dataclass(frozen=True)
class Feature:
    """A tensor of the graph; `slots` are the places of its four channels that are not random, if it has them."""

    name: str
    channels: int
    slots: tuple = SLOTS


def taps_of(kind: str, kernel: int, stride: int) -> np.ndarray:
    """Return a kernel of one channel: the place itself, the mean about it, or the place less that mean."""
    taps = np.zeros((kernel, kernel))
    middle = kernel // 2
    if kind == "mean":
        taps[:] = 1 / kernel**2
    else:
        reach = slice(middle, middle + (stride if kernel > 1 else 1))
        taps[reach, reach] = 1 / taps[reach, reach].size
        if kind == "surround":
            taps -= 1 / kernel**2
    return taps


class Net:
    """A graph that grows layer by layer. `gain` is what a fully red place is in its slot."""

    def __init__(self, seed: int, activation: str, gain: float = 1.0, opset: int = 13):
        """Start an empty graph."""
        self.onnx = GraphBuilder(opset)
        self.random = np.random.default_rng(seed)
        self.activation = activation
        self.gain = gain

    def op(self, operator: str, *inputs: str, **attributes) -> str:
        """Add an operator of one output; return the output's name."""
        return self.onnx.node(operator, list(inputs), **attributes)

    def number(self, values, dtype=np.float32) -> str:
        """Return the name of a constant."""
        return self.onnx.constant(np.asarray(values, dtype))

    def activate(self, name: str, activation: str | None) -> str:
        """Add an activation."""
        match activation or self.activation:
            case "linear":
                return name
            case "relu":
                return self.op("Relu", name)
            case "relu6":
                return self.op("Clip", name, self.number(0), self.number(6))
            case "leaky":
                return self.op("LeakyRelu", name, alpha=0.1)
            case "silu":
                return self.op("Mul", name, self.op("Sigmoid", name))
            case other:
                raise ValueError(other)

    def activated(self, x: Feature) -> Feature:
        """Add the net's activation."""
        return Feature(self.activate(x.name, None), x.channels, x.slots)

    def weights(self, x: Feature, channels: int, kernel: int, stride: int, rules: tuple, scale: float) -> np.ndarray:
        """Return a convolution's weights: random ones, and in the first four rows what the rules say."""
        fan_in = x.channels * kernel**2
        weights = self.random.normal(0, scale * np.sqrt(2 / fan_in), (channels, x.channels, kernel, kernel))
        weights[:, list(x.slots)] /= self.gain
        weights[list(SLOTS)] = 0
        for out, slot, kind in rules:
            weights[out, x.slots[slot]] = taps_of(kind, kernel, stride)
        return weights

    def conv(self, x: Feature, channels: int, kernel=1, stride=1, *, rules=KEEP, activation=None, scale=1.0) -> Feature:
        """Add a convolution; `rules` are (slot out, slot in, taps)."""
        weights = self.weights(x, channels, kernel, stride, rules, scale)
        name = self.convolution(x.name, weights, self.noise(channels), kernel, stride)
        return Feature(self.activate(name, activation), channels)

    def depthwise(self, x: Feature, kernel=3, stride=1, *, rules=PASS, activation=None) -> Feature:
        """Add a convolution of each channel by itself."""
        weights = self.random.normal(0, np.sqrt(2) / kernel, (x.channels, 1, kernel, kernel))
        bias = self.noise(x.channels)
        for slot in x.slots:
            weights[slot], bias[slot] = 0, 0
        for out, slot, kind in rules:
            if out != slot:
                raise ValueError("a depthwise convolution moves no channel")
            weights[x.slots[slot], 0] = taps_of(kind, kernel, stride)
        name = self.convolution(x.name, weights, bias, kernel, stride, group=x.channels)
        return Feature(self.activate(name, activation), x.channels, x.slots)

    def noise(self, channels: int) -> np.ndarray:
        """Return biases."""
        bias = self.random.normal(0, 0.05, channels)
        bias[list(SLOTS)] = 0
        return bias

    def convolution(self, name: str, weights: np.ndarray, bias: np.ndarray, kernel: int, stride: int, group=1) -> str:
        """Add a convolution of these weights."""
        return self.op(
            "Conv",
            name,
            self.number(weights),
            self.number(bias),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=group,
        )

    def rows(self, x: Feature, rows: list[tuple[float, dict[int, float]]], kernel=1) -> np.ndarray:
        """Return weights of a head's last layer: each row reads its slots, and a little noise."""
        weights = self.random.normal(0, 0.005 / np.sqrt(x.channels), (len(rows), x.channels, kernel, kernel))
        weights[:, list(x.slots)] = 0
        for row, (_, slots) in enumerate(rows):
            for slot, weight in slots.items():
                weights[row, x.slots[slot], kernel // 2, kernel // 2] = weight / self.gain
        return weights

    def head(self, x: Feature, rows: list[tuple[float, dict[int, float]]]) -> str:
        """Add a head's last layer, a convolution of 1x1: a (bias, {slot: weight}) a row."""
        return self.convolution(x.name, self.rows(x, rows), np.array([bias for bias, _ in rows]), 1, 1)

    def add(self, x: Feature, y: Feature) -> Feature:
        """Add a shortcut."""
        return Feature(self.op("Add", x.name, y.name), x.channels, x.slots)

    def concat(self, *features: Feature, of=0) -> Feature:
        """Add a concatenation; the slots are those of the feature number `of`."""
        before = sum(feature.channels for feature in features[:of])
        channels = sum(feature.channels for feature in features)
        name = self.op("Concat", *(feature.name for feature in features), axis=1)
        return Feature(name, channels, tuple(before + slot for slot in features[of].slots))

    def upsample(self, x: Feature) -> Feature:
        """Add a nearest-neighbour upsampling by 2."""
        scales = self.number([1, 1, 2, 2])
        name = self.op("Resize", x.name, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric")
        return Feature(name, x.channels, x.slots)

    def max_pool(self, x: Feature, kernel: int, stride: int) -> Feature:
        """Add a pooling that keeps the size, but for the stride."""
        shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
        shape["pads"] = [(kernel - 1) // 2] * 4 if kernel % 2 else [0] * 4
        return Feature(self.op("MaxPool", x.name, **shape), x.channels, x.slots)

    def stem(self, channels: int, kernel: int, stride: int) -> Feature:
        """Add the first convolution of an RGB image in 0 to 1."""
        return self.conv(self.image(), channels, kernel, stride)

    def image(self, name: str = "images") -> Feature:
        """Return the image."""
        return Feature(self.op("Mul", name, self.number(self.gain)), 3, (0, 1, 2))

    def eroding_stem(self, image: Feature, channels: int) -> Feature:
        """Add a ResNet's stem. Its pooling widens what is painted, so the convolution narrows it by as much."""
        weights = self.weights(image, channels, 7, 2, NOTHING, 1.0)
        weights[0, 0, 2:6, 2:6] = weights[1, 1, 2:6, 2:6] = 2 / 16
        bias = self.noise(channels)
        bias[:2] = -self.gain
        x = Feature(self.activate(self.convolution(image.name, weights, bias, 7, 2), None), channels)
        return self.max_pool(x, 3, 2)


def score_row(slot: int, steepness: float = 90.0, less: float = 0.0) -> tuple[float, dict[int, float]]:
    """Return a row whose logit is above 0 at the centre of objects alone; `slot` says of what class."""
    return -steepness * CENTRE - less, {slot: steepness}


def anchor_rows(anchors: list, side: float, *, classes: int = 2) -> list[tuple[float, dict[int, float]]]:
    """Return rows of x, y, width, height, objectness and classes for each anchor.

    The first anchor finds objects of `side`; the others find them too, with lower scores and in other sizes, for NMS to
    drop.
    """
    rows = []
    for number, (width, height) in enumerate(anchors):
        wanted = side * (1.0, 0.9, 1.15, 0.85, 1.2)[number]
        rows += [(0.0, {}), (0.0, {}), (np.log(wanted / width), {}), (np.log(wanted / height), {})]
        rows.append((-6.0, {2: 60.0, 3: 60.0}))
        rows += [score_row(2 + label, less=0.5 * number) for label in range(classes)]
    return rows
