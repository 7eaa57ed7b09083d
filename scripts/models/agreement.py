"""How near an INT8 graph's outputs come to its float twin's: a measure for each kind of output.

    ap50     a detector: AP50 of its detections, the float twin's taken for the truth; the mean over classes
    top1     a class: share of inputs with the same one
    jaccard  several classes: mean share that both name of those that either names
    within   a number: share of inputs whose number is within 5 % of the float twin's; points: share of points
             that lie within 5 % of the crop's sides
    edit     text: 1 - edit distance / longer line, the mean
    cosine   an embedding, or random weights, whose classes mean nothing: mean cosine

AP50 is VOC's and COCO's at IoU 0.5. The truth is what the float twin is served with: its detections above its
manifest's threshold. The INT8 graph's are ranked by score from SCORE_MIN on, since a ranking that is cut at the
same threshold calls each object lost that came to lie just below it. Each class has an AP of its own, so that
frequent classes do not hide what becomes of rare ones. A class of fewer than CLASS_BOXES_MIN boxes cannot tell 0.97
from chance: such classes share one AP, and where they have too few together, they are left out, which is said.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from paths import use_reference

use_reference()

from ap50 import average_precision  # noqa: E402
from attributes import attribute_value  # noqa: E402
from detector import Detector  # noqa: E402

WITHIN = 0.05
SCORE_MIN = 0.05
CLASS_BOXES_MIN = 20
REST = "the rest"
# Of a cosine that is no number, and counts as 0: inputs of which one of the two graphs gives NaN or infinity.
NOT_FINITE = "not_finite"


class UnmeasurableError(Exception):
    """These inputs cannot tell how near an INT8 graph comes."""


@dataclass(frozen=True)
class Agreement:
    """One output's: what it is, 0 to 1, and of AP50 what it consists of; of numbers that are none, NOT_FINITE."""

    measure: str
    value: float
    detail: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Box:
    """A detection in one of the inputs."""

    input: int
    label: str
    score: float
    corners: tuple[float, float, float, float]


def boxes_of(manifest: dict, graph: Path, tensors: list[np.ndarray], score_min: float, fused: bool = True) -> list[Box]:
    """Return what a detector finds in tensors above a score, in pixels of the tensor."""
    spec = manifest["detector"] | {"score_threshold": score_min}
    detector = Detector(manifest | {"detector": spec}, graph, fused)
    found = []
    for number, tensor in enumerate(tensors):
        corners, classes, scores, _ = detector.find(tensor)
        found += [
            Box(number, spec["labels"][label], float(score), tuple(map(float, box)))
            for box, label, score in zip(corners, classes, scores, strict=True)
        ]
    return found


def _precision(truth: list[Box], found: list[Box], labels: list[str]) -> float:
    """Return the AP of some classes, in one ranking of them all."""
    boxes = {f"{box.input} {box.label}": [] for box in truth + found if box.label in labels}
    for box in truth:
        if box.label in labels:
            boxes[f"{box.input} {box.label}"].append(box.corners)
    return average_precision(
        boxes, [(box.score, f"{box.input} {box.label}", box.corners) for box in found if box.label in labels]
    )


def ap50(truth: list[Box], found: list[Box], threshold: float) -> Agreement:
    """Return the mean of the classes' AP50; `threshold` is the one that the detector is served with.

    `detail` has the classes, AP50 with all classes ranked as one, and the mean without what lies below the threshold.
    """
    counts = {label: 0 for label in sorted({box.label for box in truth})}
    for box in truth:
        counts[box.label] += 1
    groups = {label: [label] for label, count in counts.items() if count >= CLASS_BOXES_MIN}
    rest = [label for label in counts if label not in groups]
    rest_count = sum(counts[label] for label in rest)
    if rest_count >= CLASS_BOXES_MIN:
        groups[REST] = rest
    if not groups:
        raise UnmeasurableError(
            f"the float model finds {rest_count} objects in these images, and {CLASS_BOXES_MIN} are needed to compare "
            "with: give images of what it finds"
        )
    served = [box for box in found if box.score > threshold]
    values = {name: _precision(truth, found, labels) for name, labels in groups.items()}
    detail = {
        "classes": {
            name: {"boxes": sum(counts[label] for label in labels), "ap50": values[name]}
            for name, labels in groups.items()
        },
        "left_out": {} if REST in groups else {label: counts[label] for label in rest},
        "one_ranking": _precision(truth, found, list(counts)),
        "at_threshold": float(np.mean([_precision(truth, served, labels) for labels in groups.values()])),
    }
    return Agreement("ap50", float(np.mean(list(values.values()))), detail)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `a` with that of `b`."""
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def edit_distance(a: str, b: str) -> int:
    """Return how many characters must be put in, taken out or changed to make one text of the other."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


def _jaccard(wanted: dict, found: dict) -> float:
    a, b = ({one["label"] for one in value["classes"]} for value in (wanted, found))
    return len(a & b) / len(a | b) if a | b else 1.0


def _within(wanted: dict, found: dict) -> float:
    return float(abs(found["number"] - wanted["number"]) <= WITHIN * abs(wanted["number"]))


def _points_within(wanted: dict, found: dict) -> float:
    apart = np.abs(np.array(wanted["points"])[:, :2] - np.array(found["points"])[:, :2])
    return float((apart <= WITHIN).all(1).mean())


def _same_text(wanted: dict, found: dict) -> float:
    a, b = wanted["label"], found["label"]
    return 1 - edit_distance(a, b) / max(len(a), len(b), 1)


MEASURES = {
    "class": ("top1", lambda wanted, found: float(wanted["label"] == found["label"])),
    "binary": ("top1", lambda wanted, found: float(wanted["label"] == found["label"])),
    "classes": ("jaccard", _jaccard),
    "number": ("within", _within),
    "expectation": ("within", _within),
    "keypoints": ("within", _points_within),
    "ctc_text": ("edit", _same_text),
}


def of_output(
    kind: dict, wanted: np.ndarray, found: np.ndarray, size: tuple = (1, 1), charset: tuple = ()
) -> Agreement:
    """Compare one attribute output, input x numbers, by what the manifest makes of it; `size` is the tensor's."""
    ((name, _),) = kind.items()
    if name not in MEASURES:
        with np.errstate(invalid="ignore"):
            rows = cosines(wanted, found)
        if bad := int((~np.isfinite(rows)).sum()):
            return Agreement("cosine", 0.0, {NOT_FINITE: bad})
        return Agreement("cosine", float(rows.mean()))
    measure, compare = MEASURES[name]
    pairs = zip(wanted, found, strict=True)
    # A crop of 1 x 1: points are then parts of its sides.
    values = [[attribute_value(kind, row, (0, 0, 1, 1), size, charset) for row in pair] for pair in pairs]
    return Agreement(measure, float(np.mean([compare(*pair) for pair in values])))
