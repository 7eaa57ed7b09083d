"""Mask R-CNN (He et al., 2017), whole: ResNet18 and FPN, RPN, RoiAlign over the levels, box head, NMS, mask head.

As torchvision exports it: the image has no batch, class offsets keep NMS within classes, and there are as many rows as
there are objects. The trunk and the FPN have few channels.
"""

from pathlib import Path

import numpy as np

from .net import LABELS, MEAN, NOTHING, SIZE, SURROUND, Feature, Net, score_row
from .resnet_anchor import backbone

STRIDES = [4, 8, 16, 32]
RATIOS = [1.0, 0.5, 2.0]
CHANNELS = 32
HIDDEN = 64
PROPOSALS_MAX, DETECTIONS_MAX = 60, 20
# Of a box's size, in steps of the box head's deltas.
WEIGHTS = [10, 10, 5, 5]
HEAD = f"""[detector.head.maskrcnn]
boxes = "boxes"
classes = "labels"
scores = "scores"
masks = "masks"
count_max = {DETECTIONS_MAX}
mask_side = 28
mask_bytes_max = 65536
first_class = 1
"""


def _lateral(net: Net, x: Feature, level: int) -> Feature:
    """Add a 1x1 convolution whose slots are the level's own, so that adding the level above leaves them as they are."""
    weights = net.weights(x, CHANNELS, 1, 1, NOTHING, 1.0)
    weights[: 4 * len(STRIDES)] = 0
    slots = tuple(range(4 * level, 4 * level + 4))
    weights[slots[0], x.slots[0]] = weights[slots[1], x.slots[1]] = 1
    return Feature(net.convolution(x.name, weights, np.zeros(CHANNELS), 1, 1), CHANNELS, slots)


def _pyramid(net: Net, stages: list[Feature]) -> list[Feature]:
    above, levels = None, []
    for level, stage in reversed(list(enumerate(stages))):
        x = _lateral(net, stage, level)
        if above is not None:
            x = Feature(net.op("Add", x.name, net.upsample(above).name), CHANNELS, x.slots)
        above = x
        levels.insert(0, net.conv(x, CHANNELS, 3, rules=MEAN, activation="linear"))
    return levels


def _decode(net: Net, boxes: str, deltas: str, side: int) -> str:
    """Move boxes by deltas of their centres and of the logarithms of their sizes, and cut them off at the image."""

    def halves(name: str) -> list[str]:
        return net.onnx.node_with_outputs("Split", [name, net.onnx.integers([2, 2])], 2, axis=-1)

    low, high = halves(boxes)
    to, log = halves(deltas)
    size = net.op("Sub", high, low)
    centre = net.op("Add", net.op("Mul", net.op("Add", low, high), net.number(0.5)), net.op("Mul", to, size))
    half = net.op("Mul", net.op("Mul", size, net.op("Exp", log)), net.number(0.5))
    moved = net.op("Concat", net.op("Sub", centre, half), net.op("Add", centre, half), axis=-1)
    return net.op("Clip", moved, net.number(0), net.number(side))


def _anchors(stride: int, side: int) -> np.ndarray:
    """Return anchors, rows x columns x ratios, by their corners."""
    y, x = np.mgrid[: side // stride, : side // stride] * stride + stride / 2
    centres = np.stack([x, y, x, y], -1)[:, :, None]
    half = SIZE * stride / 2 * np.array([[ratio**-0.5, ratio**0.5] for ratio in RATIOS])
    return (centres + np.concatenate([-half, half], 1)).reshape(-1, 4)


def _proposals(net: Net, levels: list[Feature], side: int) -> str:
    """Add the region proposal network, whose weights all levels share, and its NMS."""
    weights = net.weights(levels[0], CHANNELS, 3, 1, SURROUND, 1.0)
    # Red, green, and red again with a lower score and a larger box; deltas make squares of all anchors.
    rows = [score_row(2), score_row(3), score_row(2, less=1.0)]
    score_weights, score_bias = net.rows(levels[0], rows), np.array([bias for bias, _ in rows])
    logs = [
        [larger + np.log(ratio) / 2, larger - np.log(ratio) / 2]
        for ratio, larger in zip(RATIOS, (0, 0, 0.1), strict=True)
    ]
    delta_bias = np.concatenate([[0, 0, *log] for log in logs])
    delta_weights = net.rows(levels[0], [(0.0, {})] * len(delta_bias))
    boxes, logits = [], []
    for stride, level in zip(STRIDES, levels, strict=True):
        x = net.activate(net.convolution(level.name, weights, np.zeros(CHANNELS), 3, 1), None)
        logit = net.convolution(x, score_weights, score_bias, 1, 1)
        logit = net.op("Reshape", net.op("Transpose", logit, perm=[0, 2, 3, 1]), net.onnx.integers([-1]))
        delta = net.convolution(x, delta_weights, delta_bias, 1, 1)
        shape = net.onnx.integers([len(RATIOS), 4, side // stride, side // stride])
        delta = net.op("Transpose", net.op("Reshape", delta, shape), perm=[2, 3, 0, 1])
        delta = net.op("Reshape", delta, net.onnx.integers([-1, 4]))
        logit, best = net.onnx.node_with_outputs("TopK", [logit, net.onnx.integers([PROPOSALS_MAX])], 2)
        anchors = net.op("Gather", net.number(_anchors(stride, side)), best)
        boxes.append(_decode(net, anchors, net.op("Gather", delta, best), side))
        logits.append(logit)
    boxes, scores = net.op("Concat", *boxes, axis=0), net.op("Sigmoid", net.op("Concat", *logits, axis=0))
    return net.op("Gather", boxes, _suppressed(net, boxes, scores, PROPOSALS_MAX, 0.7, 0.3))


def _suppressed(net: Net, boxes: str, scores: str, count_max: int, iou_max: float, score_min: float) -> str:
    """Add NMS; return the places of the boxes that stay, the best first."""
    picked = net.op(
        "NonMaxSuppression",
        net.op("Unsqueeze", boxes, net.onnx.integers([0])),
        net.op("Unsqueeze", scores, net.onnx.integers([0, 1])),
        net.onnx.integers([count_max]),
        net.number([iou_max]),
        net.number([score_min]),
    )
    return net.op("Gather", picked, net.number(2, np.int64), axis=1)


def _roi_align(net: Net, levels: list[Feature], boxes: str, side: int) -> str:
    """Add RoiAlign, each box from the level of its size."""
    low, high = net.onnx.node_with_outputs("Split", [boxes, net.onnx.integers([2, 2])], 2, axis=1)
    area = net.op("ReduceProd", net.op("Sub", high, low), axes=[1], keepdims=0)
    # floor(4 + log2(sqrt(area) / 224)), from P2 on.
    octaves = net.op("Mul", net.op("Log", net.op("Div", area, net.number(224.0**2))), net.number(0.5 / np.log(2)))
    level_of = net.op("Floor", net.op("Add", octaves, net.number(2.000001)))
    level_of = net.op("Cast", net.op("Clip", level_of, net.number(0), net.number(len(levels) - 1)), to=7)
    count = net.op("Shape", level_of)
    shape = net.op("Concat", count, net.onnx.integers([CHANNELS, side, side]), axis=0)
    crops = net.op("ConstantOfShape", shape)
    for number, (stride, level) in enumerate(zip(STRIDES, levels, strict=True)):
        rows = net.op("NonZero", net.op("Equal", level_of, net.number(number, np.int64)))
        rows = net.op("Squeeze", rows, net.onnx.integers([0]))
        batch = net.op("Mul", rows, net.number(0, np.int64))
        options = {"output_height": side, "output_width": side, "sampling_ratio": 2, "spatial_scale": 1 / stride}
        crop = net.op("RoiAlign", level.name, net.op("Gather", boxes, rows), batch, **options)
        crops = net.op("ScatterND", crops, net.op("Unsqueeze", rows, net.onnx.integers([1])), crop)
    return crops


def _dense(net: Net, x: str, weights: np.ndarray, bias=None) -> str:
    bias = np.zeros(len(weights)) if bias is None else bias
    return net.op("Gemm", x, net.number(weights), net.number(bias), transB=1)


def _boxes(net: Net, levels: list[Feature], proposals: str, side: int) -> tuple[str, str, str]:
    """Add the box head and its NMS; return boxes, labels and scores."""
    classes = len(LABELS)
    hidden = net.random.normal(0, 0.02, (HIDDEN, CHANNELS, 49))
    hidden[:, :4] = 0
    for slot in range(classes):
        hidden[slot], hidden[slot, slot] = 0, 1 / 49
    x = net.activate(
        _dense(net, net.op("Flatten", _roi_align(net, levels, proposals, 7)), hidden.reshape(HIDDEN, -1)), None
    )
    again = net.random.normal(0, 0.1, (HIDDEN, HIDDEN))
    again[:classes], again[:, :classes] = 0, 0
    again[range(classes), range(classes)] = 1
    x = net.activate(_dense(net, x, again), None)
    logits = np.zeros((1 + classes, HIDDEN))
    logits[range(1, 1 + classes), range(classes)] = 40
    # A box that is less than 0.8 of a colour is background.
    scores = net.op("Softmax", _dense(net, x, logits, np.array([32.0, 0, 0])), axis=1)
    scores = net.op("Slice", scores, net.onnx.integers([1]), net.onnx.integers([9]), net.onnx.integers([1]))
    noise = net.random.normal(0, 0.005, (4 * classes, HIDDEN))
    noise[:, :classes] = 0
    deltas = net.op("Reshape", _dense(net, x, noise), net.onnx.integers([-1, classes, 4]))
    deltas = net.op("Div", deltas, net.number(WEIGHTS))
    boxes = _decode(net, net.op("Unsqueeze", proposals, net.onnx.integers([1])), deltas, side)
    boxes = net.op("Reshape", boxes, net.onnx.integers([-1, 4]))
    labels = net.op("Add", net.op("Mul", scores, net.number(0)), net.number(range(1, 1 + classes)))
    scores, labels = (net.op("Reshape", tensor, net.onnx.integers([-1])) for tensor in (scores, labels))
    offsets = net.op("Mul", net.op("Unsqueeze", labels, net.onnx.integers([1])), net.number(2 * side))
    picked = _suppressed(net, net.op("Add", boxes, offsets), scores, DETECTIONS_MAX, 0.5, 0.05)
    boxes, labels, scores = (net.op("Gather", tensor, picked) for tensor in (boxes, labels, scores))
    return boxes, net.op("Cast", labels, to=7), scores


def _masks(net: Net, levels: list[Feature], boxes: str, labels: str) -> str:
    """Add the mask head, which draws a mask for each class, and take that of the box's."""
    x = Feature(_roi_align(net, levels, boxes, 14), CHANNELS)
    for _ in range(4):
        x = net.conv(x, CHANNELS, 3)
    weights = net.random.normal(0, 0.1, (CHANNELS, CHANNELS, 2, 2))
    weights[:, :4], weights[:4] = 0, 0
    weights[0, 0] = weights[1, 1] = 1
    name = net.op("ConvTranspose", x.name, net.number(weights), kernel_shape=[2, 2], strides=[2, 2])
    x = Feature(net.activate(name, None), CHANNELS)
    masks = net.op("Sigmoid", net.head(x, [(0.0, {}), (-10.0, {0: 20.0}), (-10.0, {1: 20.0})]))
    return net.op("GatherND", masks, net.op("Unsqueeze", labels, net.onnx.integers([1])), batch_dims=1)


def build(path: Path, side: int) -> None:
    """Write the graph."""
    net = Net(17, "relu")
    images = net.op("Unsqueeze", "images", net.onnx.integers([0]))
    levels = _pyramid(net, backbone(net, images))
    proposals = _proposals(net, levels, side)
    boxes, labels, scores = _boxes(net, levels, proposals, side)
    masks = net.op("Unsqueeze", _masks(net, levels, boxes, labels), net.onnx.integers([1]))
    named = {"boxes": boxes, "labels": labels, "scores": scores, "masks": masks}
    for name, tensor in named.items():
        net.onnx.rename(tensor, name)
    shapes = {"boxes": ["objects", 4], "labels": ["objects"], "scores": ["objects"], "masks": ["objects", 1, 28, 28]}
    net.onnx.save(path, {"images": [3, side, side]}, shapes, integers=("labels",))
