"""Raw outputs of every detector family, and the boxes that they mean: what the product's decoders are compared with.

    families.py --out FOLDER

Writes FOLDER/cases.json, a list of {"name", "tensors": [{"name", "shape"}], "map": [scale_x, scale_y, pad_x, pad_y],
"source": [width, height], "boxes": [[class, score, x0, y0, x1, y1]], "masks": [counts], "dropped"}, and for each
case FOLDER/NAME with its manifest.toml and raw.f32, the numbers of all tensors. Boxes are in source pixels, cut at the
source's edges; masks are the run lengths of those that have one.

The draws are seeded. One that has a close call (a score at the threshold, two scores or an overlap nearly equal to
what they are compared with) is drawn again: float32 and float64 may fairly differ there.
"""

import argparse
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detector import best_classes, drawn_mask, iou, keep
from heads import HEADS, is_end_to_end, sigmoid, ssd_priors

WIDTH, HEIGHT = 96, 64
STRIDES = [8, 16, 32]
CELLS = [(HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
CELL_COUNT = sum(rows * columns for rows, columns in CELLS)
LABELS = ["person", "car", "dog"]
SOURCE = 200, 160
MAP = 2.5, 2.5, 8.0, 0.0
DRAW_COUNT_MAX = 200

MANIFEST = """name = "family"
version = 1
file = "model.onnx"
sha256 = "{zeroes}"
source = "drawn"
licence = "none"
description = "raw outputs without a model"

[input]
tensor = "images"
graph = [
    {{ op = "decode" }},
    {{ op = "resize", fit = "letterbox", width = {width}, height = {height} }},
    {{ op = "layout", order = "nchw" }},
]

[detector]
labels = {labels}
score_threshold = {score_threshold}
iou_threshold = {iou_threshold}
candidates_max = {candidates_max}
detections_max = {detections_max}

{head}
"""

SSD_LEVELS = """
[[detector.head.ssd.priors.levels]]
grid = [5, 7]
step = 13.5
min_sizes = [12.0]
max_sizes = [20.0]
aspect_ratios = [2.0]
[[detector.head.ssd.priors.levels]]
grid = [2, 3]
step = 32
min_sizes = [30.0, 44.0]
"""


class Draw:
    """Numbers for one case: `kind` says what is hard about them."""

    def __init__(self, seed: list[int], kind: str):
        """Seed the generator."""
        self.rng = np.random.default_rng(seed)
        self.kind = kind

    def logits(self, *shape: int) -> np.ndarray:
        """Return logits of scores."""
        mean = {"crowded": 2.0, "empty": -30.0}.get(self.kind, -1.5)
        numbers = self.rng.normal(mean, 0.1 if self.kind == "empty" else 2.0, shape)
        return np.round(numbers) if self.kind == "ties" else numbers

    def softmax_logits(self, *shape: int) -> np.ndarray:
        """Return logits of a softmax over the last axis; equal scores come of equal logits alone."""
        logits = self.logits(*shape)
        if self.kind == "ties":
            logits[..., 0] = logits[..., 2:] = 0
        return logits

    def shares(self, *shape: int) -> np.ndarray:
        """Return scores."""
        return sigmoid(self.logits(*shape))

    def numbers(self, low: float, high: float, *shape: int) -> np.ndarray:
        """Return numbers of boxes; those of `border` go three times as far from the middle."""
        middle, reach = (low + high) / 2, (high - low) / 2 * (3 if self.kind == "border" else 1)
        return self.rng.uniform(middle - reach, middle + reach, shape)

    def boxes(self, count: int, width: float = WIDTH, height: float = HEIGHT) -> np.ndarray:
        """Return boxes by their centres, count x 4."""
        x, y = self.numbers(0, width, count), self.numbers(0, height, count)
        w, h = (np.abs(self.numbers(0.02 * side, 0.6 * side, count)) for side in (width, height))
        return np.stack([x, y, w, h], 1)

    def spoiled(self, tensor: np.ndarray) -> np.ndarray:
        """Return the tensor as float32, with the numbers in it that the kind is named after."""
        values = {"saturated": [1000.0, -1000.0], "broken": [np.nan, np.inf, -np.inf]}.get(self.kind)
        tensor = np.array(tensor, np.float32)
        if values:
            flat = tensor.reshape(-1)
            where = self.rng.random(flat.size) < 0.03
            flat[where] = self.rng.choice(values, int(where.sum()))
        return tensor


# By activation.
SCORES = {"none": Draw.shares, "sigmoid": Draw.logits, "softmax": Draw.softmax_logits}
KINDS = ["random", "crowded", "ties", "saturated", "broken", "border", "empty"]


@dataclass
class Family:
    """A way to write a head: `head` is the manifest's text, `draw` makes its tensors, in the model's order."""

    head: str
    draw: callable
    labels: int = len(LABELS)


def nanodet(draw: Draw, labels: int) -> dict:
    """Return scores and distances by stride."""
    cells = dict(zip("abc", (rows * columns for rows, columns in CELLS), strict=True))
    scores = {f"score_{name}": draw.shares(count, labels) for name, count in cells.items()}
    return scores | {f"box_{name}": draw.numbers(-3, 3, count, 4 * 5) for name, count in cells.items()}


def sigmoid_scores(draw: Draw, labels: int, *shape: int) -> np.ndarray:
    """Return logits of objectness and classes, each by itself."""
    return draw.logits(*shape, 1 + labels)


def softmax_scores(draw: Draw, labels: int, *shape: int) -> np.ndarray:
    """Return logits of objectness, and of classes against one another."""
    return np.concatenate([draw.logits(*shape, 1), draw.softmax_logits(*shape, labels)], -1)


def anchors(
    draw: Draw, labels: int, *, names: list[str], count: int, squash=lambda x: x, logits=sigmoid_scores
) -> dict:
    """Return tensors of anchors, one for each of as many strides as there are names."""
    tensors = {}
    for name, (rows, columns) in zip(names, CELLS, strict=False):
        boxes = draw.numbers(-2, 2, count, 4, rows, columns)
        boxes[:, :2] = squash(boxes[:, :2])
        scores = squash(np.moveaxis(logits(draw, labels, count, rows, columns), -1, 1) + 1)
        tensors[name] = np.concatenate([boxes, scores], 1).reshape(-1, rows, columns)
    return tensors


def yolov2(draw: Draw, labels: int) -> dict:
    """Return the one tensor."""
    if labels == 1:
        return anchors(draw, 0, names=["out"], count=2)
    return anchors(draw, labels, names=["out"], count=2, logits=softmax_scores)


def yolov3_exported(draw: Draw, labels: int) -> dict:
    """Return rows of box, objectness and classes."""
    count = 3 * CELL_COUNT
    objectness = sigmoid(draw.logits(count, 1) + 1)
    return {"out": np.concatenate([draw.boxes(count), objectness, draw.shares(count, labels)], 1)}


def yolov8_exported(draw: Draw, labels: int) -> dict:
    """Return columns of box and classes."""
    return {"output0": np.concatenate([draw.boxes(CELL_COUNT), draw.shares(CELL_COUNT, labels)], 1).T}


def yolov8_raw(draw: Draw, labels: int) -> dict:
    """Return distances over bins, and classes, by stride."""
    parts = {f"p{index}": cells for index, cells in enumerate(CELLS)}
    return {
        name: np.concatenate([draw.numbers(-3, 3, 4 * 16, *cells), draw.logits(labels, *cells)])
        for name, cells in parts.items()
    }


def ssd_priors_of(activation: str):
    """Return a draw of offsets, and of scores or logits."""

    def draw_of(draw: Draw, labels: int) -> dict:
        options = tomllib.loads(SSD_LEVELS)["detector"]["head"]["ssd"]["priors"]
        count = len(ssd_priors(options | {"clip": False}, WIDTH, HEIGHT))
        scores = SCORES[activation](draw, count, 1 + labels)
        if draw.kind == "empty":
            scores[:, 0] = 1.0 if activation == "none" else 9.0
        return {"loc": draw.numbers(-3, 3, count, 4), "conf": scores}

    return draw_of


def ssd_exported(draw: Draw, labels: int) -> dict:
    """Return shares of the sides, classes from 1 on, and a count."""
    count = 50
    x, y, w, h = draw.boxes(count, 1, 1).T
    boxes = np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], 1)
    # 0 is the background, labels + 1 a class without a label.
    classes = draw.rng.integers(0, labels + 2, count)
    return {"boxes": boxes, "classes": classes, "scores": draw.shares(count), "num": np.array(37.0)}


def ssd_exported_pixels(draw: Draw, labels: int) -> dict:
    """Return corners in pixels, classes from 0 on, and no count."""
    x, y, w, h = draw.boxes(40).T
    boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
    return {"boxes": boxes, "classes": draw.rng.integers(0, labels, 40), "scores": draw.shares(40)}


def maskrcnn(draw: Draw, labels: int) -> dict:
    """Return corners in pixels, classes from 1 on, and masks; rows of zeroes fill them up."""
    count, found = 30, 0 if draw.kind == "empty" else 23
    x, y, w, h = draw.boxes(count).T
    tensors = {
        "boxes": np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1),
        "labels": draw.rng.integers(0, labels + 2, count),
        "scores": draw.shares(count),
        "masks": draw.rng.random((count, 1, 14, 14)),
    }
    for tensor in tensors.values():
        tensor[found:] = 0
    return tensors


def dbnet(draw: Draw, labels: int) -> dict:
    """Return a probability map of bars, some of which touch, and of lone pixels."""
    probabilities = np.full((HEIGHT, WIDTH), 0.05)
    bars = {"empty": 0, "crowded": 60}.get(draw.kind, 12)
    boxes = draw.boxes(bars) / [1, 1, *[8 if draw.kind == "crowded" else 2] * 2]
    for (x, y, w, h), score in zip(np.ceil(boxes).astype(int), draw.rng.uniform(0.35, 0.99, bars), strict=True):
        level = 0.75 if draw.kind == "ties" else score
        probabilities[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = level
    if draw.kind not in ("empty", "ties"):
        probabilities += draw.rng.uniform(0, 0.01, probabilities.shape)
        probabilities[draw.rng.random(probabilities.shape) < 0.01] = 0.6
    return {"map": probabilities[None]}


def rtdetr_of(activation: str):
    """Return a draw of boxes, and of scores or logits."""

    def draw_of(draw: Draw, labels: int) -> dict:
        width = labels + (activation == "softmax")
        scores = SCORES[activation](draw, 90, width)
        if activation == "softmax" and draw.kind == "empty":
            scores[:, -1] = 9.0
        return {"logits": scores, "boxes": draw.boxes(90, 1, 1)}

    return draw_of


YOLOV3_ANCHORS = "[[[5, 7], [8, 15], [16, 11]], [[15, 30], [31, 22], [29, 59]], [[58, 45], [78, 99], [186, 163]]]"
YOLOV3_RAW = f"""[detector.head.yolov3.raw]
outputs = ["o8", "o16", "o32"]
strides = {STRIDES}
anchors = {YOLOV3_ANCHORS}
"""
RTDETR = """[detector.head.rtdetr]
boxes = "boxes"
scores = "logits"
queries = 90
"""
SSD_PRIORS = """[detector.head.ssd.priors]
boxes = "loc"
scores = "conf"
variances = [0.1, 0.1, 0.2, 0.2]
"""
SSD_EXPORTED = """[detector.head.ssd.exported]
boxes = "boxes"
classes = "classes"
scores = "scores"
"""
O3 = ["o8", "o16", "o32"]

FAMILIES = {
    "nanodet": Family(
        f"""[detector.head.nanodet]
scores = ["score_a", "score_b", "score_c"]
boxes = ["box_a", "box_b", "box_c"]
strides = {STRIDES}
bins = 5
""",
        nanodet,
    ),
    "yolov2": Family('[detector.head.yolov2]\noutput = "out"\ncell = 8\nanchors = [[1.5, 2.0], [4.0, 3.0]]', yolov2),
    "yolov2-face": Family(
        '[detector.head.yolov2]\noutput = "out"\ncell = 8\nanchors = [[1.5, 2.0], [4.0, 3.0]]', yolov2, labels=1
    ),
    "yolov3-raw": Family(
        YOLOV3_RAW + "sigmoid_done = false", lambda draw, labels: anchors(draw, labels, names=O3, count=3)
    ),
    "yolov3-squashed": Family(
        YOLOV3_RAW + "sigmoid_done = true",
        lambda draw, labels: anchors(draw, labels, names=O3, count=3, squash=sigmoid),
    ),
    "yolov3-exported": Family(
        f'[detector.head.yolov3.exported]\noutput = "out"\nstrides = {STRIDES}\nanchors_per_cell = 3', yolov3_exported
    ),
    "yolov8-exported": Family(
        f'[detector.head.yolov8.exported]\noutput = "output0"\nstrides = {STRIDES}', yolov8_exported
    ),
    "yolov8-raw": Family(
        f'[detector.head.yolov8.raw]\noutputs = ["p0", "p1", "p2"]\nstrides = {STRIDES}\nbins = 16', yolov8_raw
    ),
    "ssd-softmax": Family(SSD_PRIORS + 'clip = true\nactivation = "softmax"' + SSD_LEVELS, ssd_priors_of("softmax")),
    "ssd-sigmoid": Family(SSD_PRIORS + 'clip = false\nactivation = "sigmoid"' + SSD_LEVELS, ssd_priors_of("sigmoid")),
    "ssd-none": Family(SSD_PRIORS + 'clip = true\nactivation = "none"' + SSD_LEVELS, ssd_priors_of("none")),
    "ssd-exported": Family(
        SSD_EXPORTED + 'count = "num"\ncount_max = 50\norder = "yxyx"\nnormalized = true\nfirst_class = 1', ssd_exported
    ),
    "ssd-exported-pixels": Family(
        SSD_EXPORTED + 'count_max = 40\norder = "xyxy"\nnormalized = false\nfirst_class = 0', ssd_exported_pixels
    ),
    "rtdetr-sigmoid": Family(RTDETR + 'activation = "sigmoid"', rtdetr_of("sigmoid")),
    "rtdetr-softmax": Family(RTDETR + 'activation = "softmax"', rtdetr_of("softmax")),
    "rtdetr-none": Family(RTDETR + 'activation = "none"', rtdetr_of("none")),
    "maskrcnn": Family(
        """[detector.head.maskrcnn]
boxes = "boxes"
classes = "labels"
scores = "scores"
masks = "masks"
count_max = 30
mask_side = 14
mask_bytes_max = 1_000_000
first_class = 1
""",
        maskrcnn,
    ),
    "dbnet": Family(
        '[detector.head.dbnet]\noutput = "map"\nthreshold = 0.3\nunclip_ratio = 1.5\nside_min = 2', dbnet, labels=1
    ),
    "resnet-anchor": Family(
        f"""[detector.head.resnet_anchor]
outputs = ["o8", "o16"]
strides = {STRIDES[:2]}
anchors = [[[10, 20], [16, 8]], [[30, 40], [50, 60]]]
""",
        lambda draw, labels: anchors(draw, labels, names=O3[:2], count=2),
    ),
}


def has_close_call(boxes: np.ndarray, scores: np.ndarray, spec: dict) -> bool:
    """Say whether a decision about these boxes hangs on rounding."""
    classes, _ = best_classes(scores)
    best = np.minimum(np.nan_to_num(scores, nan=-np.inf).max(1), 1)
    if (np.abs(best - spec["score_threshold"]) < 1e-5).any():
        return True
    above = np.flatnonzero(best > spec["score_threshold"])
    gaps = np.diff(np.sort(best[above]))
    if ((gaps > 0) & (gaps < 1e-6)).any():
        return True
    ((family, head),) = spec["head"].items()
    if is_end_to_end(family, head):
        return False
    overlaps = [
        np.abs(iou(boxes[one], boxes[above[classes[above] == classes[one]]]) - spec["iou_threshold"]) for one in above
    ]
    return bool(overlaps) and float(np.nanmin(np.concatenate(overlaps), initial=1.0)) < 1e-5


def to_source(boxes: np.ndarray) -> np.ndarray:
    """Return boxes in pixels of the source."""
    scale_x, scale_y, pad_x, pad_y = MAP
    return (boxes - [pad_x, pad_y, pad_x, pad_y]) * [scale_x, scale_y, scale_x, scale_y]


def make_case(number: int, name: str, kind: str, folder: Path) -> dict:
    """Draw a case, write its files, and return its entry."""
    family = FAMILIES[name]
    crowded = kind == "crowded"
    labels = LABELS[: family.labels]
    head = tomllib.loads(family.head)["detector"]["head"]
    ((family_name, options),) = head.items()
    text = MANIFEST.format(
        zeroes="0" * 64,
        width=WIDTH,
        height=HEIGHT,
        labels=json.dumps(labels),
        score_threshold=0.3,
        iou_threshold=1.0 if is_end_to_end(family_name, options) else 0.5,
        candidates_max=35 if crowded else 1000,
        detections_max=12 if crowded else 200,
        head=family.head,
    )
    spec = tomllib.loads(text)["detector"]
    for attempt in range(DRAW_COUNT_MAX):
        draw = Draw([number, KINDS.index(kind), attempt], kind)
        tensors = {name: draw.spoiled(tensor) for name, tensor in family.draw(draw, len(labels)).items()}
        with np.errstate(all="ignore"):
            boxes, scores = HEADS[family_name](options, len(labels), tensors, WIDTH, HEIGHT)
            boxes = to_source(boxes)
            if has_close_call(boxes, scores, spec):
                continue
            boxes, classes, best, rows = keep(boxes, scores, spec)
        break
    else:
        raise RuntimeError(f"{name}, {kind}: {DRAW_COUNT_MAX} draws had close calls")
    dropped = max(len(boxes) - spec["detections_max"], 0)
    uncut = boxes[: spec["detections_max"]]
    boxes = np.clip(uncut, 0, [*SOURCE, *SOURCE])
    found, masks = [], []
    for label, score, row, outer, box in zip(classes, best, rows, uncut, boxes, strict=False):
        if box[0] < box[2] and box[1] < box[3]:
            found.append([int(label), float(score), *map(float, box)])
            if "masks" in options:
                with np.errstate(all="ignore"):
                    masks.append(drawn_mask(tensors[options["masks"]][row, 0], outer, box)["counts"])
    target = folder / f"{name}-{kind}"
    target.mkdir(parents=True)
    (target / "manifest.toml").write_text(text)
    (target / "raw.f32").write_bytes(b"".join(tensor.astype("<f4").tobytes() for tensor in tensors.values()))
    shapes = [{"name": name, "shape": list(tensor.shape)} for name, tensor in tensors.items()]
    return {
        "name": target.name,
        "tensors": shapes,
        "map": MAP,
        "source": SOURCE,
        "boxes": found,
        "masks": masks,
        "dropped": dropped,
    }


def make_cases(folder: Path) -> list[dict]:
    """Write every kind of every family."""
    return [make_case(number, name, kind, folder) for number, name in enumerate(FAMILIES) for kind in KINDS]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    folder = parser.parse_args().out
    (folder / "cases.json").write_text(json.dumps(make_cases(folder)))


if __name__ == "__main__":
    main()
