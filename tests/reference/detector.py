"""A detector: frame in, boxes in frame pixels out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from heads import HEADS
from images import frame_tensor
from manifest import load_manifest
from session import open_session


@dataclass
class Detection:
    """One object; the box is (x1, y1, x2, y2) in pixels of the upright photo."""

    box: tuple[float, float, float, float]
    label_index: int
    label: str
    score: float


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union of one box with each of many."""
    inner = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None).prod(1)
    area = np.prod(box[2:] - box[:2])
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return inner / np.maximum(area + areas - inner, 1e-9)


def suppress(boxes: np.ndarray, classes: np.ndarray, iou_max: float) -> list[int]:
    """Greedy NMS within each class over boxes sorted by falling score; return what stays."""
    kept: list[int] = []
    for index, box in enumerate(boxes):
        rivals = [other for other in kept if classes[other] == classes[index]]
        if not rivals or iou(box, boxes[rivals]).max() <= iou_max:
            kept.append(index)
    return kept


class Detector:
    """A detector as its manifest describes it."""

    def __init__(self, manifest: dict, graph: Path):
        """Open a graph by a manifest."""
        self.manifest = manifest
        self.spec = manifest["detector"]
        self.session = open_session(graph)

    @classmethod
    def of_repository(cls, models: Path, name: str) -> "Detector":
        """Open a model of the repository."""
        manifest = load_manifest(models, name)
        return cls(manifest, manifest["path"])

    def detect(self, frame: np.ndarray) -> list[Detection]:
        """Return what is in the frame, highest score first."""
        tensor_spec, spec = self.manifest["spec"], self.spec
        tensor, placement = frame_tensor(frame, tensor_spec)
        names = [output.name for output in self.session.get_outputs()]
        results = self.session.run(names, {tensor_spec["tensor"]: tensor})
        outputs = {name: result[0] for name, result in zip(names, results, strict=True)}
        ((family, head),) = spec["head"].items()
        size = tensor_spec["width"], tensor_spec["height"]
        boxes, scores = HEADS[family](head, len(spec["labels"]), outputs, *size)

        # One candidate a box: its best class.
        classes, best = scores.argmax(1), scores.max(1)
        order = np.argsort(-best, kind="stable")
        order = order[best[order] > spec["score_threshold"]][: spec["candidates_max"]]
        kept = order[suppress(boxes[order], classes[order], spec["iou_threshold"])]
        kept = kept[: spec["detections_max"]]
        in_frame = placement.to_frame(boxes[kept], frame)
        return [
            Detection(tuple(map(float, box)), int(c), spec["labels"][c], float(score))
            for box, c, score in zip(in_frame, classes[kept], best[kept], strict=True)
        ]
