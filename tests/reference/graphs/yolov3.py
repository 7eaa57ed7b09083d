"""YOLOv3 (Redmon and Farhadi, 2018): Darknet-53 with a quarter of its channels, three scales, raw tensors."""

from pathlib import Path

from .net import LABELS, MEAN, PASS, SIZE, SURROUND, Feature, Net, anchor_rows

STRIDES = [8, 16, 32]
ANCHORS = [[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 119]], [[116, 90], [156, 198], [373, 326]]]
# Residual blocks of each stage.
BLOCKS = [1, 2, 8, 8, 4]
HEAD = f"""[detector.head.yolov3.raw]
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


def build(path: Path, side: int) -> None:
    """Write the graph."""
    net = Net(3, "leaky")
    outputs, above = {}, None
    stages = zip(STRIDES, ANCHORS, _darknet(net, side), strict=True)
    for stride, anchors, stage in reversed(list(stages)):
        x = stage
        if above is not None:
            x = net.concat(net.upsample(net.conv(above, above.channels // 2)), x, of=1)
        above = _five(net, x, stage.channels // 2)
        x = net.conv(above, stage.channels, 3, rules=SURROUND)
        name = net.onnx.rename(net.head(x, anchor_rows(anchors, SIZE * stride)), f"out{stride}")
        outputs[name] = ["N", 3 * (5 + len(LABELS)), side // stride, side // stride]
    net.onnx.save(path, {"images": ["N", 3, side, side]}, outputs)
