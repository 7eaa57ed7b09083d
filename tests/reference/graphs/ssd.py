"""SSD (Liu et al., 2016) on MobileNet (Howard et al., 2017), six scales: raw offsets, or decoded with NMS inside.

The exported graph is like those of TensorFlow's converters: a batch of one, as many boxes as there are objects, class
numbers as int64.
"""

from pathlib import Path

import numpy as np

from .net import CENTRE, KEEP, LABELS, PASS, SIZE, TWICE, Feature, Net, taps_of

# Strides of the depthwise convolutions, and their channels: a quarter of MobileNet's.
BLOCKS = [(1, 16), (2, 32), (1, 32), (2, 64), (1, 64), (2, 128), *[(1, 128)] * 5, (2, 256), (1, 256)]
# Blocks whose outputs have priors: the last ones of strides 16 and 32.
TAPPED = [10, 12]
# Channels of the layers beyond.
EXTRAS = [128, 64, 64, 64]
STRIDES = [16, 32, 64, 128, 256, 512]
VARIANCES = [0.1, 0.1, 0.2, 0.2]
RATIO = 2.0
COUNT_MAX = 50
MOBILENET_SIDE = 416


def grids(side: int) -> list[int]:
    """Return the rows of each scale, which are its columns too."""
    found = [side // 16, side // 32]
    while len(found) < len(STRIDES):
        found.append(-(-found[-1] // 2))
    return found


def _levels() -> str:
    return "".join(
        f"""
[[detector.head.ssd.priors.levels]]
grid = [{grid}, {grid}]
step = {stride}
min_sizes = [{SIZE * stride}]
aspect_ratios = [{RATIO}]
"""
        for stride, grid in zip(STRIDES, grids(MOBILENET_SIDE), strict=True)
    )


PRIORS_HEAD = f"""[detector.head.ssd.priors]
boxes = "loc"
scores = "conf"
activation = "softmax"
variances = {VARIANCES}
clip = false
{_levels()}"""
EXPORTED_HEAD = f"""[detector.head.ssd.exported]
boxes = "boxes"
classes = "classes"
scores = "scores"
count_max = {COUNT_MAX}
rows_vary = true
order = "yxyx"
normalized = true
first_class = 1
"""


def _mobilenet(net: Net) -> list[Feature]:
    """Add the trunk and the layers beyond; a tapped block's slots have the mean of three by three cells."""
    x = net.stem(8, 3, 2)
    features = []
    for number, (stride, channels) in enumerate(BLOCKS):
        mean = (*KEEP, (2, 2, "mean"), (3, 3, "mean"))
        x = net.depthwise(x, 3, stride, rules=mean if number in TAPPED else PASS)
        x = net.conv(x, channels, rules=PASS if number in TAPPED else TWICE)
        if number in TAPPED:
            features.append(x)
    for channels in EXTRAS:
        x = net.conv(net.conv(x, channels // 2), channels, 3, 2)
        features.append(x)
    return features


def _predictor(net: Net, x: Feature, rows: list[tuple[float, dict[int, float]]]) -> str:
    """Add a convolution of 3x3 whose rows read the surround of slots; return rows of one row's numbers a cell."""
    weights = net.rows(x, rows, 3)
    for row, (_, slots) in enumerate(rows):
        for slot, weight in slots.items():
            weights[row, x.slots[slot]] = weight / net.gain * taps_of("surround", 3, 1)
    return net.op(
        "Transpose", net.convolution(x.name, weights, np.array([bias for bias, _ in rows]), 3, 1), perm=[0, 2, 3, 1]
    )


def _raw(net: Net) -> tuple[str, str]:
    """Add everything before the boxes; return offsets and logits."""
    classes, offsets, logits = len(LABELS), [], []
    for number, x in enumerate(_mobilenet(net)):
        # The square prior, and the two of the ratio, which find the same with a lower score.
        is_tapped = number < len(TAPPED)
        rows = []
        for less in (0.0, 1.0, 1.0):
            steepness = 90.0 if is_tapped else 0.0
            scores = [(-90.0 * CENTRE - less, {2 + label: steepness}) for label in range(classes)]
            rows += [(0.0, {}), *scores]
        shape = net.onnx.integers([0, -1, 1 + classes])
        logits.append(net.op("Reshape", _predictor(net, x, rows), shape))
        offset = _predictor(net, x, [(0.0, {})] * 12)
        offsets.append(net.op("Reshape", offset, net.onnx.integers([0, -1, 4])))
    return net.op("Concat", *offsets, axis=1), net.op("Concat", *logits, axis=1)


def build_priors(path: Path, side: int) -> None:
    """Write the graph that puts out offsets and logits."""
    net = Net(300, "relu6")
    for name, tensor in zip(("loc", "conf"), _raw(net), strict=True):
        net.onnx.rename(tensor, name)
    count = 3 * sum(grid**2 for grid in grids(side))
    shapes = {"loc": ["N", count, 4], "conf": ["N", count, 1 + len(LABELS)]}
    net.onnx.save(path, {"images": ["N", 3, side, side]}, shapes)


def _priors(side: int) -> np.ndarray:
    """Return priors by their centres, as shares of the sides."""
    found = []
    for stride, grid in zip(STRIDES, grids(side), strict=True):
        y, x = (np.mgrid[:grid, :grid] + 0.5) * stride
        root = np.sqrt(RATIO)
        sizes = SIZE * stride * np.array([[1, 1], [root, 1 / root], [1 / root, root]])
        centres = np.broadcast_to(np.stack([x, y], -1)[:, :, None], (grid, grid, 3, 2))
        found.append(np.concatenate([centres, np.broadcast_to(sizes, centres.shape)], -1).reshape(-1, 4))
    return np.concatenate(found) / side


def build_exported(path: Path, side: int) -> None:
    """Write the graph with boxes, NMS and everything."""
    net = Net(300, "relu6")
    offsets, logits = _raw(net)
    priors = _priors(side)
    steps = net.op("Mul", offsets, net.number(VARIANCES))
    to, log = net.onnx.node_with_outputs("Split", [steps, net.onnx.integers([2, 2])], 2, axis=2)
    centres = net.op("Add", net.op("Mul", to, net.number(priors[:, 2:])), net.number(priors[:, :2]))
    halves = net.op("Mul", net.op("Exp", log), net.number(priors[:, 2:] / 2))
    corners = net.op("Concat", net.op("Sub", centres, halves), net.op("Add", centres, halves), axis=2)
    boxes = net.op("Gather", corners, net.onnx.integers([1, 0, 3, 2]), axis=2)
    scores = net.op("Transpose", net.op("Softmax", logits, axis=2), perm=[0, 2, 1])
    scores = net.op("Slice", scores, net.onnx.integers([1]), net.onnx.integers([9]), net.onnx.integers([1]))
    options = net.onnx.integers([COUNT_MAX]), net.number([0.45]), net.number([0.05])
    picked = net.op("NonMaxSuppression", boxes, scores, *options)
    scores = net.op("GatherND", scores, picked)
    columns = net.onnx.node_with_outputs("Split", [picked, net.onnx.integers([1, 1, 1])], 3, axis=1)
    labels, places = (net.op("Squeeze", column, net.onnx.integers([1])) for column in columns[1:])
    # The best of all classes.
    count = net.op("Min", net.op("Shape", scores), net.onnx.integers([COUNT_MAX]))
    scores, best = net.onnx.node_with_outputs("TopK", [scores, count], 2)
    labels = net.op("Add", net.op("Gather", labels, best), net.number(1, np.int64))
    boxes = net.op("Gather", boxes, net.op("Gather", places, best), axis=1)
    net.onnx.rename(boxes, "boxes")
    for name, tensor in {"classes": labels, "scores": scores}.items():
        net.onnx.rename(net.op("Unsqueeze", tensor, net.onnx.integers([0])), name)
    shapes = {"boxes": [1, "objects", 4], "classes": [1, "objects"], "scores": [1, "objects"]}
    net.onnx.save(path, {"images": [1, 3, side, side]}, shapes, integers=("classes",))
