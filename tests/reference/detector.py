"""A detector: frame in, boxes in frame pixels out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from heads import HEADS, is_end_to_end, is_without_batch, paste, runs
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
    mask: dict | None = None


def drawn_mask(mask: np.ndarray, box: np.ndarray, cut: np.ndarray) -> dict:
    """Return a mask's place in the photo and its run lengths; `cut` is the box within the photo."""
    x0, y0 = np.floor(cut[:2]).astype(int).tolist()
    x1, y1 = np.ceil(cut[2:]).astype(int).tolist()
    counts = runs(paste(mask, box, (x0, y0, x1, y1)))
    return {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "counts": counts}


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


def best_classes(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each box's best class and its score, rounded to float32; NaN is never the best, infinity no score."""
    real = np.where(np.isnan(scores), -np.inf, scores)
    classes = real.argmax(1)
    best = real[np.arange(len(real)), classes].astype(np.float32)
    return classes, np.where(np.isinf(best), -np.inf, np.minimum(best, np.float32(1)))


def keep(boxes: np.ndarray, scores: np.ndarray, spec: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes, classes, scores and rows of what stays of a head's boxes, best first, detections_max or more.

    Boxes that are not finite in float32, or have no area, are none. Equal scores go by class, then by place.
    """
    classes, best = best_classes(scores)
    corners = boxes.astype(np.float32)
    real = np.isfinite(best) & np.isfinite(corners).all(1) & (corners[:, :2] < corners[:, 2:]).all(1)
    order = np.lexsort((*boxes.T[::-1], classes, -best))
    order = order[(real & (best > spec["score_threshold"]))[order]][: spec["candidates_max"]]
    boxes, classes, best = boxes[order], classes[order], best[order]
    ((family, head),) = spec["head"].items()
    if not is_end_to_end(family, head):
        kept = suppress(boxes, classes, spec["iou_threshold"])
        boxes, classes, best, order = boxes[kept], classes[kept], best[kept], order[kept]
    return boxes, classes, best, order


class Detector:
    """A detector as its manifest describes it."""

    def __init__(self, manifest: dict, graph: Path, fused: bool = True):
        """Open a graph by a manifest; `fused` as for a session."""
        self.manifest = manifest
        self.spec = manifest["detector"]
        self.session = open_session(graph, fused)

    @classmethod
    def of_repository(cls, models: Path, name: str) -> "Detector":
        """Open a model of the repository."""
        manifest = load_manifest(models, name)
        return cls(manifest, manifest["path"])

    def find(self, tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list]:
        """Return boxes in tensor pixels, classes, scores and masks of what is in a tensor, highest score first."""
        tensor_spec, spec = self.manifest["spec"], self.spec
        names = [output.name for output in self.session.get_outputs()]
        has_batch = len(self.session.get_inputs()[0].shape) == 4
        results = self.session.run(names, {tensor_spec["tensor"]: tensor if has_batch else tensor[0]})
        ((family, head),) = spec["head"].items()
        outputs = dict(zip(names, results, strict=True))
        if not is_without_batch(family, head, outputs):
            outputs = {name: result[0] for name, result in outputs.items()}
        size = tensor_spec["width"], tensor_spec["height"]
        boxes, scores = HEADS[family](head, len(spec["labels"]), outputs, *size)
        boxes, classes, scores, rows = (part[: spec["detections_max"]] for part in keep(boxes, scores, spec))
        masks = [outputs[head["masks"]][row, 0] if "masks" in head else None for row in rows]
        return boxes, classes, scores, masks

    def detect(self, frame: np.ndarray) -> list[Detection]:
        """Return what is in the frame, highest score first."""
        tensor, placement = frame_tensor(frame, self.manifest["spec"])
        boxes, classes, scores, masks = self.find(tensor)
        in_frame = placement.to_frame(boxes, frame)
        uncut = placement.to_source(boxes)
        return [
            Detection(
                tuple(map(float, box)),
                int(c),
                self.spec["labels"][c],
                float(score),
                None if mask is None else drawn_mask(mask, outer, box),
            )
            for box, c, score, mask, outer in zip(in_frame, classes, scores, masks, uncut, strict=True)
        ]
