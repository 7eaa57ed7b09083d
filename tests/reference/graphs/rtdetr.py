"""RT-DETR (Zhao et al., 2023) on ResNet18, with few channels: hybrid encoder, decoder of queries.

The encoder attends within the coarsest scale and fuses the three by a path up and one down; its best cells become the
queries, which attend to one another, and to a few points about their boxes in each scale. No NMS: each query is one
object, or none.
"""

from pathlib import Path

import numpy as np

from .net import LABELS, MEAN, NOTHING, SIZE, SURROUND, Feature, Net, score_row
from .resnet_anchor import backbone

STRIDES = [8, 16, 32]
CHANNELS = 32
HEADS = 4
LAYERS = 3
QUERIES = 40
# Of deformable attention, in each scale.
POINTS = 4
GAIN = 20.0
# Added to two channels of each token, with opposite signs: it outweighs all others, so that a layer normalisation
# divides by nearly the same everywhere.
WEIGHT = 60.0
DIVISOR = WEIGHT * np.sqrt(2 / CHANNELS)
HEAD = f"""[detector.head.rtdetr]
boxes = "boxes"
scores = "logits"
queries = {QUERIES}
activation = "sigmoid"
"""


class Tokens:
    """Transformer layers over tokens `[batch, tokens, CHANNELS]`; the first slots pass them as they are."""

    def __init__(self, net: Net):
        """Add to this graph."""
        self.net = net

    def dense(self, x: str, width: int, inner: int = CHANNELS, scale: float = 0.3) -> str:
        """Add a linear layer that leaves the slots out."""
        weights = self.net.random.normal(0, scale / np.sqrt(inner), (inner, width))
        weights[:4] = 0
        weights[:, :4] = 0
        return self.net.op("MatMul", x, self.net.number(weights))

    def norm(self, x: str) -> str:
        """Add a layer normalisation."""
        net = self.net
        centred = net.op("Sub", x, net.op("ReduceMean", x, axes=[-1]))
        variance = net.op("ReduceMean", net.op("Mul", centred, centred), axes=[-1])
        return net.op("Div", centred, net.op("Sqrt", net.op("Add", variance, net.number(1e-5))))

    def attend(self, queries: str, cells: str) -> str:
        """Add attention of several heads, a shortcut and a normalisation."""
        net, width = self.net, CHANNELS // HEADS

        def split(x: str, perm: list[int]) -> str:
            x = net.op("Reshape", x, net.onnx.integers([0, -1, HEADS, width]))
            return net.op("Transpose", x, perm=perm)

        q = split(self.dense(queries, CHANNELS), [0, 2, 1, 3])
        k = split(self.dense(cells, CHANNELS), [0, 2, 3, 1])
        v = split(self.dense(cells, CHANNELS), [0, 2, 1, 3])
        shares = net.op("Softmax", net.op("Div", net.op("MatMul", q, k), net.number(np.sqrt(width))), axis=3)
        mixed = net.op("Transpose", net.op("MatMul", shares, v), perm=[0, 2, 1, 3])
        mixed = self.dense(net.op("Reshape", mixed, net.onnx.integers([0, -1, CHANNELS])), CHANNELS)
        return self.norm(net.op("Add", queries, mixed))

    def sample(self, queries: str, memory: str, boxes: str, side: int) -> str:
        """Add deformable attention to points about each query's box, a shortcut and a normalisation."""
        net, width, levels = self.net, CHANNELS // HEADS, len(STRIDES)

        def by_head(x: str, count: int) -> str:
            x = net.op("Reshape", x, net.onnx.integers([0, QUERIES, HEADS, count]))
            return net.op("Transpose", x, perm=[0, 2, 1, 3])

        sizes = [(side // stride) ** 2 for stride in STRIDES]
        values = net.op("Transpose", self.dense(memory, CHANNELS), perm=[0, 2, 1])
        values = net.onnx.node_with_outputs("Split", [values, net.onnx.integers(sizes)], levels, axis=2)
        count = levels * POINTS
        shares = net.op("Softmax", by_head(self.dense(queries, HEADS * count), count), axis=3)
        shares = net.op("Reshape", shares, net.onnx.integers([-1, 1, QUERIES, count]))
        offsets = by_head(self.dense(queries, HEADS * count * 2), count * 2)
        offsets = net.op("Reshape", offsets, net.onnx.integers([0, HEADS, QUERIES, count, 2]))
        boxes = net.op("Unsqueeze", boxes, net.onnx.integers([1, 3]))
        centres, spans = net.onnx.node_with_outputs("Split", [boxes, net.onnx.integers([2, 2])], 2, axis=4)
        places = net.op("Add", centres, net.op("Mul", offsets, net.op("Mul", spans, net.number(0.5 / POINTS))))
        # From shares of the sides to GridSample's -1 to 1.
        grid = net.op("Sub", net.op("Mul", places, net.number(2)), net.number(1))
        grid = net.op("Reshape", grid, net.onnx.integers([-1, QUERIES, count, 2]))
        grids = net.onnx.node_with_outputs("Split", [grid, net.onnx.integers([POINTS] * levels)], levels, axis=2)
        samples = []
        for stride, value, points in zip(STRIDES, values, grids, strict=True):
            shape = net.onnx.integers([-1, width, side // stride, side // stride])
            samples.append(net.op("GridSample", net.op("Reshape", value, shape), points))
        mixed = net.op("Mul", net.op("Concat", *samples, axis=3), shares)
        mixed = net.op("ReduceSum", mixed, net.onnx.integers([3]), keepdims=0)
        mixed = net.op("Reshape", mixed, net.onnx.integers([-1, CHANNELS, QUERIES]))
        mixed = self.dense(net.op("Transpose", mixed, perm=[0, 2, 1]), CHANNELS)
        return self.norm(net.op("Add", queries, mixed))

    def feed(self, x: str) -> str:
        """Add a feed-forward network, a shortcut and a normalisation."""
        hidden = self.net.op("Relu", self.dense(x, 2 * CHANNELS))
        return self.norm(self.net.op("Add", x, self.dense(hidden, CHANNELS, 2 * CHANNELS)))


def _tokens(net: Net, x: Feature) -> str:
    return net.op("Transpose", net.op("Reshape", x.name, net.onnx.integers([0, CHANNELS, -1])), perm=[0, 2, 1])


def _fusion(net: Net, *features: Feature, of: int) -> Feature:
    """Add a fusion block: a concatenation, and two convolutions beside a shortcut."""
    x = net.conv(net.concat(*features, of=of), CHANNELS)
    y = net.conv(net.conv(x, CHANNELS, 3), CHANNELS, 3, rules=NOTHING, scale=0.3)
    return net.add(x, y)


def _encoder(net: Net, tokens: Tokens, side: int) -> list[Feature]:
    """Add trunk and hybrid encoder; return a feature a stride."""
    stages = [net.conv(stage, CHANNELS, activation="linear") for stage in backbone(net)[1:]]
    rows = side // STRIDES[-1]
    # Attention within the coarsest scale, beside the slots of which normalisation would make something else.
    attended = tokens.feed(tokens.attend(_tokens(net, stages[2]), _tokens(net, stages[2])))
    shape = net.onnx.integers([0, CHANNELS, rows, rows])
    attended = Feature(net.op("Reshape", net.op("Transpose", attended, perm=[0, 2, 1]), shape), CHANNELS, ())
    p5 = net.conv(net.concat(stages[2], attended), CHANNELS)
    up4 = _fusion(net, net.upsample(p5), stages[1], of=1)
    out3 = _fusion(net, net.upsample(up4), stages[0], of=1)
    out4 = _fusion(net, net.conv(out3, CHANNELS, 3, 2), up4, of=1)
    out5 = _fusion(net, net.conv(out4, CHANNELS, 3, 2), p5, of=1)
    return [net.conv(net.conv(x, CHANNELS, 3, rules=MEAN), CHANNELS, 3, rules=SURROUND) for x in (out3, out4, out5)]


def _scores(net: Net, tokens: str) -> str:
    """Add logits by class: of what the surround is after a normalisation."""
    weights = net.random.normal(0, 0.01, (CHANNELS, len(LABELS)))
    weights[:4] = 0
    bias, slots = score_row(2)
    weights[range(2, 2 + len(LABELS)), range(len(LABELS))] = slots[2] * DIVISOR / GAIN
    return net.op("Add", net.op("MatMul", tokens, net.number(weights)), net.number(bias))


def _boxes(net: Net, tokens: str) -> str:
    """Add what a box is moved by, in logits."""
    weights = net.random.normal(0, 0.003, (CHANNELS, 4))
    weights[:4] = 0
    return net.op("MatMul", tokens, net.number(weights))


def _anchors(side: int) -> np.ndarray:
    """Return a box for each cell, by its centre, as logits of shares of the sides."""
    found = []
    for stride in STRIDES:
        y, x = (np.mgrid[: side // stride, : side // stride].reshape(2, -1) + 0.5) * stride
        found.append(np.stack([x, y, np.full(x.size, SIZE * stride), np.full(x.size, SIZE * stride)], 1))
    shares = np.concatenate(found) / side
    return np.log(shares / (1 - shares))


def build(path: Path, side: int) -> None:
    """Write the graph."""
    # GridSample is of opset 16.
    net = Net(5, "relu", GAIN, opset=16)
    tokens = Tokens(net)
    cells = net.op("Concat", *(_tokens(net, x) for x in _encoder(net, tokens, side)), axis=1)
    # The raw colours have done their work: the surround goes on, and a little of the rest, which moves the mean.
    keep, bias = np.full(CHANNELS, 0.1), np.zeros(CHANNELS)
    keep[2:4] = 1
    keep[:2], bias[:2] = 0, [WEIGHT, -WEIGHT]
    memory = tokens.norm(net.op("Add", net.op("Mul", cells, net.number(keep)), net.number(bias)))
    # Queries: the best cells.
    best = net.op("ReduceMax", _scores(net, memory), axes=[-1], keepdims=0)
    _, places = net.onnx.node_with_outputs("TopK", [best, net.onnx.integers([QUERIES])], 2)
    places = net.op("Unsqueeze", places, net.onnx.integers([2]))
    queries = net.op("GatherND", memory, places, batch_dims=1)
    anchors = net.op(
        "Add",
        net.op("Mul", net.op("ReduceSum", memory, net.onnx.integers([-1])), net.number(0)),
        net.number(_anchors(side)),
    )
    boxes = net.op("Add", net.op("GatherND", anchors, places, batch_dims=1), _boxes(net, queries))
    for _ in range(LAYERS):
        queries = tokens.attend(queries, queries)
        queries = tokens.feed(tokens.sample(queries, memory, net.op("Sigmoid", boxes), side))
        boxes = net.op("Add", boxes, _boxes(net, queries))
    net.onnx.rename(net.op("Sigmoid", boxes), "boxes")
    net.onnx.rename(_scores(net, queries), "logits")
    shapes = {"boxes": ["N", QUERIES, 4], "logits": ["N", QUERIES, len(LABELS)]}
    net.onnx.save(path, {"images": ["N", 3, side, side]}, shapes)
