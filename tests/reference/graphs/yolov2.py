"""YOLOv2 (Redmon and Farhadi, 2016): Darknet-19 with a quarter of its channels, the passthrough, five anchors."""

from pathlib import Path

import numpy as np

from .net import KEEP, LABELS, MEAN, NOTHING, SIZE, SURROUND, TWICE, Feature, Net, anchor_rows

CELL = 32
ANCHORS = [[3.19275, 4.00944], [1.3221, 1.73145], [5.05587, 8.09892], [9.47112, 4.84053], [11.2364, 10.0071]]
# Channels of each stage's convolutions, of 3x3 and 1x1 by turns.
STAGES = [[8], [16], [32, 16, 32], [64, 32, 64], [128, 64, 128, 64, 128], [256, 128, 256, 128, 256]]
# The stage of stride 8, whose last convolution narrows objects by a cell on each side: the two poolings behind it widen
# them, and those of stride 32 have edges in the middle of its cells.
NARROWING = 3
HEAD = f"""[detector.head.yolov2]
output = "out"
cell = {CELL}
anchors = {ANCHORS}
"""


def _narrowing(net: Net, x: Feature, channels: int) -> Feature:
    weights, bias = net.weights(x, channels, 3, 1, KEEP, 1.0), net.noise(channels)
    weights[:2] = 0
    for slot in range(2):
        weights[slot, x.slots[slot]] = 3 / 9
        bias[slot] = -2
    return Feature(net.activate(net.convolution(x.name, weights, bias, 3, 1), None), channels)


def build(path: Path, side: int) -> None:
    """Write the graph."""
    net = Net(19, "leaky")
    x, fine = net.image(), None
    for stage, widths in enumerate(STAGES):
        if stage > 0:
            x = net.max_pool(x, 2, 2)
        for number, channels in enumerate(widths):
            is_narrowing = stage == NARROWING and number == len(widths) - 1
            x = _narrowing(net, x, channels) if is_narrowing else net.conv(x, channels, 1 if number % 2 else 3)
        if stage == len(STAGES) - 2:
            fine = x
    fine = net.conv(fine, 16, rules=NOTHING)
    fine = Feature(net.op("SpaceToDepth", fine.name, blocksize=2), 4 * fine.channels, ())
    x = net.conv(net.conv(x, 256, 3, rules=TWICE), 256, 3, rules=MEAN)
    x = net.conv(net.concat(fine, x, of=1), 256, 3, rules=SURROUND, scale=0.2)
    anchors = np.array(ANCHORS) * CELL
    rows = anchor_rows(anchors.tolist(), SIZE * CELL)
    for number in range(len(ANCHORS)):
        # Classes are against one another: whether there is an object is objectness alone.
        first = number * (5 + len(LABELS))
        rows[first + 4] = (-90.0 * 0.34 - 1.5 * number, {2: 90.0, 3: 90.0})
    out = net.onnx.rename(net.head(x, rows), "out")
    shape = ["N", len(ANCHORS) * (5 + len(LABELS)), side // CELL, side // CELL]
    net.onnx.save(path, {"images": ["N", 3, side, side]}, {out: shape})
