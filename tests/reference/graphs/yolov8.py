"""YOLOv8n (ultralytics) with half of its channels: C2f, SPPF, a path up and one down, DFL; raw, or as exported."""

from pathlib import Path

import numpy as np

from .net import LABELS, MEAN, NOTHING, SIZE, SURROUND, Feature, Net, score_row

STRIDES = [8, 16, 32]
BINS = 16
RAW_HEAD = f"""[detector.head.yolov8.raw]
outputs = ["out8", "out16", "out32"]
strides = {STRIDES}
bins = {BINS}
"""
EXPORTED_HEAD = f"""[detector.head.yolov8.exported]
output = "output0"
strides = {STRIDES}
"""


def _c2f(net: Net, x: Feature, channels: int, count: int, *, shortcut=True) -> Feature:
    """Add a C2f; its first half, which goes on untouched, has the slots."""
    x = net.conv(x, channels)
    half = channels // 2
    names = net.onnx.node_with_outputs("Split", [x.name, net.onnx.integers([half, half])], 2, axis=1)
    parts = [Feature(names[0], half), Feature(names[1], half, ())]
    for _ in range(count):
        y = net.conv(net.conv(parts[-1], half, 3, rules=NOTHING), half, 3, rules=NOTHING, scale=0.3)
        parts.append(Feature(net.add(parts[-1], y).name if shortcut else y.name, half, ()))
    return net.conv(net.concat(*parts), channels)


def _sppf(net: Net, x: Feature) -> Feature:
    parts = [net.conv(x, x.channels // 2)]
    for _ in range(3):
        parts.append(net.max_pool(parts[-1], 5, 1))
    return net.conv(net.concat(*parts), x.channels)


def _features(net: Net) -> list[Feature]:
    x = _c2f(net, net.conv(net.stem(8, 3, 2), 16, 3, 2), 16, 1)
    p3 = _c2f(net, net.conv(x, 32, 3, 2), 32, 2)
    p4 = _c2f(net, net.conv(p3, 64, 3, 2), 64, 2)
    p5 = _sppf(net, _c2f(net, net.conv(p4, 128, 3, 2), 128, 1))
    up4 = _c2f(net, net.concat(net.upsample(p5), p4, of=1), 64, 1, shortcut=False)
    out3 = _c2f(net, net.concat(net.upsample(up4), p3, of=1), 32, 1, shortcut=False)
    out4 = _c2f(net, net.concat(net.conv(out3, 32, 3, 2), up4), 64, 1, shortcut=False)
    out5 = _c2f(net, net.concat(net.conv(out4, 64, 3, 2), p5), 128, 1, shortcut=False)
    return [out3, out4, out5]


def _raw(net: Net) -> list[str]:
    """Add everything before the boxes; return a tensor a stride."""
    # Half an object's side lies between two bins.
    low = int(SIZE / 2)
    bins = np.full(BINS, -12.0)
    bins[low], bins[low + 1] = np.log([low + 1 - SIZE / 2, SIZE / 2 - low])
    outputs = []
    for x in _features(net):
        distances = net.head(net.conv(net.conv(x, 32, 3), 32, 3), [(logit, {}) for logit in np.tile(bins, 4)])
        y = net.conv(net.conv(x, 32, 3, rules=MEAN), 32, 3, rules=SURROUND)
        scores = net.head(y, [score_row(2), score_row(3)])
        outputs.append(net.op("Concat", distances, scores, axis=1))
    return outputs


def build_raw(path: Path, side: int) -> None:
    """Write the graph that puts out distances over bins and logits."""
    # Where SiLU is nearly the identity, the slots are large.
    net = Net(8, "silu", gain=20.0)
    outputs = {
        net.onnx.rename(tensor, f"out{stride}"): ["N", 4 * BINS + len(LABELS), side // stride, side // stride]
        for stride, tensor in zip(STRIDES, _raw(net), strict=True)
    }
    net.onnx.save(path, {"images": ["N", 3, side, side]}, outputs)


def build_exported(path: Path, side: int) -> None:
    """Write the graph that puts out one tensor of decoded boxes and scores."""
    net = Net(8, "silu", gain=20.0)
    shape = net.onnx.integers([0, 4 * BINS + len(LABELS), -1])
    cells = net.op("Concat", *(net.op("Reshape", tensor, shape) for tensor in _raw(net)), axis=2)
    parts = net.onnx.integers([4 * BINS, len(LABELS)])
    distances, logits = net.onnx.node_with_outputs("Split", [cells, parts], 2, axis=1)
    distances = net.op("Reshape", distances, net.onnx.integers([0, 4, BINS, -1]))
    shares = net.op("Softmax", net.op("Transpose", distances, perm=[0, 2, 1, 3]), axis=1)
    bins = np.arange(BINS).reshape(1, BINS, 1, 1)
    count = sum((side // stride) ** 2 for stride in STRIDES)
    distances = net.op("Conv", shares, net.number(bins))
    distances = net.op("Reshape", distances, net.onnx.integers([0, 4, count]))
    halves = net.onnx.node_with_outputs("Split", [distances, net.onnx.integers([2, 2])], 2, axis=1)
    centres, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: side // stride, : side // stride].reshape(2, -1) + 0.5
        centres.append(np.stack([x, y]))
        strides.append(np.full(x.size, stride))
    anchors = net.number(np.concatenate(centres, 1))
    low, high = net.op("Sub", anchors, halves[0]), net.op("Add", anchors, halves[1])
    middle = net.op("Mul", net.op("Add", low, high), net.number(0.5))
    boxes = net.op("Concat", middle, net.op("Sub", high, low), axis=1)
    boxes = net.op("Mul", boxes, net.number(np.concatenate(strides)))
    net.onnx.rename(net.op("Concat", boxes, net.op("Sigmoid", logits), axis=1), "output0")
    net.onnx.save(path, {"images": ["N", 3, side, side]}, {"output0": ["N", 4 + len(LABELS), count]})
