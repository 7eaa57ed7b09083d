"""YOLOv3 (Redmon and Farhadi, 2018): Darknet-53 with a quarter of its channels, three scales; raw, or decoded."""

from pathlib import Path

import numpy as np

from .net import LABELS, MEAN, PASS, SIZE, SURROUND, Feature, Net, anchor_rows

STRIDES = [8, 16, 32]
ANCHORS = [[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 119]], [[116, 90], [156, 198], [373, 326]]]
# Residual blocks of each stage.
BLOCKS = [1, 2, 8, 8, 4]
# Numbers of an anchor.
WIDTH = 5 + len(LABELS)
EXPORTED_HEAD = f"""[detector.head.yolov3.exported]
output = "output"
strides = {STRIDES}
anchors_per_cell = 3
"""
RAW_HEAD = f"""[detector.head.yolov3.raw]
outputs = ["out8", "out16", "out32"]
strides = {STRIDES}
anchors = {ANCHORS}
sigmoid_done = false
"""


def _darknet(net: Net, side: int) -> list[Feature]:
    x = net.stem(8, 3, 1)
    stages = []
    for count in BLOCKS:
        x = net.conv(x, 2 * x.channels, 3, 2)
        for _ in range(count):
            y = net.conv(x, x.channels // 2)
            x = net.add(x, net.conv(y, x.channels, 3, rules=(), scale=0.3))
        stages.append(x)
    return stages[2:]


def _five(net: Net, x: Feature, channels: int) -> Feature:
    x = net.conv(net.conv(x, channels), 2 * channels, 3)
    return net.conv(net.conv(net.conv(x, channels), 2 * channels, 3, rules=MEAN), channels, rules=PASS)


def _raw(net: Net, side: int) -> dict[int, str]:
    """Add everything before the boxes; return a tensor a stride."""
    outputs, above = {}, None
    stages = zip(STRIDES, ANCHORS, _darknet(net, side), strict=True)
    for stride, anchors, stage in reversed(list(stages)):
        x = stage
        if above is not None:
            x = net.concat(net.upsample(net.conv(above, above.channels // 2)), x, of=1)
        above = _five(net, x, stage.channels // 2)
        x = net.conv(above, stage.channels, 3, rules=SURROUND)
        outputs[stride] = net.head(x, anchor_rows(anchors, SIZE * stride))
    return outputs


def build_raw(path: Path, side: int) -> None:
    """Write the graph that puts out a tensor of anchors a stride."""
    net = Net(3, "leaky")
    outputs = {
        net.onnx.rename(tensor, f"out{stride}"): ["N", 3 * WIDTH, side // stride, side // stride]
        for stride, tensor in _raw(net, side).items()
    }
    net.onnx.save(path, {"images": ["N", 3, side, side]}, outputs)


def build_exported(path: Path, side: int) -> None:
    """Write the graph that puts out rows of decoded boxes."""
    net = Net(3, "leaky")
    rows = []
    for stride, tensor in sorted(_raw(net, side).items()):
        grid = side // stride
        x = net.op("Reshape", tensor, net.onnx.integers([0, 3, WIDTH, grid * grid]))
        x = net.op("Transpose", x, perm=[0, 1, 3, 2])
        parts = net.onnx.integers([2, 2, WIDTH - 4])
        places, sizes, scores = net.onnx.node_with_outputs("Split", [x, parts], 3, axis=3)
        cells = np.mgrid[:grid, :grid].reshape(2, -1)[::-1].T
        places = net.op("Add", net.op("Sigmoid", places), net.number(cells))
        anchors = np.array(ANCHORS[STRIDES.index(stride)]).reshape(3, 1, 2)
        boxes = net.op("Mul", places, net.number(stride)), net.op("Mul", net.op("Exp", sizes), net.number(anchors))
        x = net.op("Concat", *boxes, net.op("Sigmoid", scores), axis=3)
        rows.append(net.op("Reshape", x, net.onnx.integers([0, -1, WIDTH])))
    net.onnx.rename(net.op("Concat", *rows, axis=1), "output")
    count = 3 * sum((side // stride) ** 2 for stride in STRIDES)
    net.onnx.save(path, {"images": ["N", 3, side, side]}, {"output": ["N", count, WIDTH]})
