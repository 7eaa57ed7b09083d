"""NanoDet-m (RangiLyu, 2020) with half of its channels: ShuffleNetV2, PAN, a head a stride."""

from pathlib import Path

import numpy as np

from .net import KEEP, LABELS, NOTHING, PASS, SIZE, Feature, Net, score_row

STRIDES = [8, 16, 32]
BINS = 8
# Units and channels of each stage.
STAGES = [(4, 64), (8, 128), (4, 256)]
CHANNELS = 48
# By stride: what logits have less than others', since the paths blur.
LESS = [0.0, -2.2, -1.5]
HEAD = f"""[detector.head.nanodet]
scores = ["score8", "score16", "score32"]
boxes = ["box8", "box16", "box32"]
strides = {STRIDES}
bins = {BINS}
"""


def _shuffled(net: Net, first: Feature, second: Feature, rows: int) -> Feature:
    """Add a concatenation of two halves and the shuffle of their channels; slots may be in either."""
    half = first.channels
    x = net.op("Concat", first.name, second.name, axis=1)
    x = net.op("Reshape", x, net.onnx.integers([0, 2, half, rows * rows]))
    x = net.op("Transpose", x, perm=[0, 2, 1, 3])
    slots = tuple(2 * slot for slot in first.slots) + tuple(2 * slot + 1 for slot in second.slots)
    return Feature(net.op("Reshape", x, net.onnx.integers([0, 2 * half, rows, rows])), 2 * half, slots)


def _unit(net: Net, x: Feature, rows: int) -> Feature:
    """Add a unit of stride 1, of which one half of the channels goes on as it is.

    Red is channel 0, which the shuffle leaves where it is; green moves from half to half.
    """
    half = x.channels // 2
    names = net.onnx.node_with_outputs("Split", [x.name, net.onnx.integers([half, half])], 2, axis=1)
    kept = tuple(slot for slot in x.slots if slot < half)
    moved = tuple(slot - half for slot in x.slots if slot >= half)
    rules = tuple((slot, slot, "keep") for slot in range(len(moved)))
    y = net.conv(Feature(names[1], half, moved), half, rules=rules)
    slots = y.slots[: len(moved)]
    y = net.depthwise(Feature(y.name, half, slots), rules=rules, activation="linear")
    y = net.conv(y, half, rules=rules)
    return _shuffled(net, Feature(names[0], half, kept), Feature(y.name, half, slots), rows)


def _down(net: Net, x: Feature, channels: int, rows: int) -> Feature:
    """Add a unit of stride 2; its first branch carries the slots."""
    half = channels // 2
    x = Feature(x.name, x.channels, x.slots[:2])
    first = net.conv(net.depthwise(x, 3, 2, rules=KEEP, activation="linear"), half)
    second = net.conv(x, half, rules=NOTHING)
    second = net.depthwise(Feature(second.name, half, ()), 3, 2, rules=NOTHING, activation="linear")
    second = net.conv(second, half, rules=NOTHING)
    return _shuffled(net, Feature(first.name, half, (0, 1)), Feature(second.name, half, ()), rows)


def _lateral(net: Net, x: Feature, level: int) -> Feature:
    """Add a 1x1 convolution whose slots are the level's own, each colour twice, whatever is added of other levels."""
    weights = net.weights(x, CHANNELS, 1, 1, NOTHING, 1.0)
    weights[: 4 * len(STRIDES)] = 0
    slots = tuple(range(4 * level, 4 * level + 4))
    for slot in range(4):
        weights[slots[slot], x.slots[slot % 2]] = 1
    bias = net.noise(CHANNELS)
    bias[: 4 * len(STRIDES)] = 0
    return Feature(net.activate(net.convolution(x.name, weights, bias, 1, 1), None), CHANNELS, slots)


def _resized(net: Net, x: Feature, factor: float) -> Feature:
    name = net.op("Resize", x.name, "", net.number([1, 1, factor, factor]), mode="linear")
    return Feature(name, x.channels, x.slots)


def _features(net: Net, side: int) -> list[Feature]:
    x = net.max_pool(net.stem(16, 3, 2), 3, 2)
    stages = []
    for (count, channels), stride in zip(STAGES, STRIDES, strict=True):
        x = _down(net, x, channels, side // stride)
        for _ in range(count - 1):
            x = _unit(net, x, side // stride)
        stages.append(x)
    levels = [_lateral(net, stage, number) for number, stage in enumerate(stages)]
    for number in (1, 0):
        levels[number] = net.add(levels[number], _resized(net, levels[number + 1], 2.0))
    for number in (1, 2):
        levels[number] = net.add(levels[number], _resized(net, levels[number - 1], 0.5))
    return levels


def build(path: Path, side: int) -> None:
    """Write the graph."""
    net = Net(42, "leaky")
    half = SIZE / 2
    bins = np.full(BINS, -12.0)
    bins[int(half)], bins[int(half) + 1] = np.log([int(half) + 1 - half, half - int(half)])
    mean, surround = ((*KEEP, (2, 2, kind), (3, 3, kind)) for kind in ("mean", "surround"))
    outputs = {}
    for number, (stride, level) in enumerate(zip(STRIDES, _features(net, side), strict=True)):
        x = net.conv(net.depthwise(level, rules=mean), CHANNELS, rules=PASS)
        x = net.conv(net.depthwise(x, rules=surround), CHANNELS, rules=PASS)
        # The paths up and down have added a level's own slots to it as many times.
        scores = [score_row(2, less=LESS[number]), score_row(3, less=LESS[number])]
        scores = [(bias, {slot: weight / (1 + number) for slot, weight in slots.items()}) for bias, slots in scores]
        rows = [*scores, *((logit, {}) for logit in np.tile(bins, 4))]
        cells = net.op("Transpose", net.head(x, rows), perm=[0, 2, 3, 1])
        cells = net.op("Reshape", cells, net.onnx.integers([0, (side // stride) ** 2, len(rows)]))
        parts = net.onnx.integers([len(LABELS), 4 * BINS])
        scores, boxes = net.onnx.node_with_outputs("Split", [cells, parts], 2, axis=2)
        named = {f"score{stride}": net.op("Sigmoid", scores), f"box{stride}": boxes}
        for (name, tensor), width in zip(named.items(), (len(LABELS), 4 * BINS), strict=True):
            outputs[net.onnx.rename(tensor, name)] = ["N", (side // stride) ** 2, width]
    net.onnx.save(path, {"images": ["N", 3, side, side]}, outputs)
