"""A ResNet18 with a quarter of its channels, and at strides 16 and 32 a head of two 3x3 and a 1x1 convolution."""

from pathlib import Path

from .net import KEEP, LABELS, MEAN, NOTHING, SIZE, SURROUND, Feature, Net, anchor_rows

STRIDES = [16, 32]
ANCHORS = [[[24, 32], [48, 64], [80, 96]], [[112, 160], [192, 224], [320, 320]]]
CHANNELS = [16, 32, 64, 128]
HEAD = f"""[detector.head.resnet_anchor]
outputs = ["out16", "out32"]
strides = {STRIDES}
anchors = {ANCHORS}
"""


def _block(net: Net, x: Feature, channels: int, stride: int) -> Feature:
    """Add a basic block; where the size changes, its convolutions carry the slots, else its shortcut does."""
    is_kept = stride == 1 and x.channels == channels
    y = net.conv(x, channels, 3, stride)
    y = net.conv(y, channels, 3, rules=NOTHING if is_kept else KEEP, activation="linear", scale=0.3)
    if not is_kept:
        x = net.conv(x, channels, 1, stride, rules=NOTHING, activation="linear", scale=0.7)
    return net.activated(net.add(x, y))


def backbone(net: Net, images: str = "images") -> list[Feature]:
    """Add the trunk; return its stages, of strides 4, 8, 16 and 32."""
    x = net.eroding_stem(net.image(images), CHANNELS[0])
    stages = []
    for stage, channels in enumerate(CHANNELS):
        for block in range(2):
            x = _block(net, x, channels, 2 if block == 0 and stage > 0 else 1)
        stages.append(x)
    return stages


def build(path: Path, side: int) -> None:
    """Write the graph."""
    net = Net(18, "relu")
    outputs = {}
    for stride, anchors, stage in zip(STRIDES, ANCHORS, backbone(net)[2:], strict=True):
        x = net.conv(net.conv(stage, 64, 3, rules=MEAN), 64, 3, rules=SURROUND)
        name = net.onnx.rename(net.head(x, anchor_rows(anchors, SIZE * stride)), f"out{stride}")
        outputs[name] = ["N", 3 * (5 + len(LABELS)), side // stride, side // stride]
    net.onnx.save(path, {"images": ["N", 3, side, side]}, outputs)
