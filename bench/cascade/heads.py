"""A detector's raw outputs to detections. Boxes are decoded only where the score passes: they are few of many."""

import cv2
import numpy as np

from cascade.manifest import Model
from cascade.results import Detection, Placement


class Head:
    """Decodes, filters and suppresses what one detector puts out."""

    def __init__(self, model: Model, output_names: list[str]) -> None:
        """Look up the family of the head. `output_names` are the names of the arrays that it will be given."""
        ((family, self._head),) = model.detector["head"].items()
        if family not in _FAMILIES:
            raise NotImplementedError(f"the peers have no head {family}")
        self._decode = _FAMILIES[family]
        self._spec = model.detector
        self._names = output_names

    def detections(self, outputs: list[np.ndarray], placement: Placement) -> list[Detection]:
        """Return what was found in one image, highest score first."""
        spec = self._spec
        named = {name: output[0] for name, output in zip(self._names, outputs, strict=True)}
        parts = self._decode(self._head, named, len(spec["labels"]), spec["score_threshold"])
        boxes, classes, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(-scores, kind="stable")[: spec["candidates_max"]]
        boxes, classes, scores = boxes[order], classes[order], scores[order]
        if len(order) > 1:
            sides = boxes.copy()
            sides[:, 2:] -= sides[:, :2]
            kept = cv2.dnn.NMSBoxesBatched(sides, scores, classes, 0.0, spec["iou_threshold"])
            kept = np.asarray(kept, np.intp)[: spec["detections_max"]]
            boxes, classes, scores = boxes[kept], classes[kept], scores[kept]
        boxes = placement.to_image(boxes).tolist()
        return [(*box, c, s) for box, c, s in zip(boxes, classes.tolist(), scores.tolist(), strict=True)]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _nanodet(head: dict, outputs: dict, labels: int, threshold: float):
    """Scores with the sigmoid done; distances to the four sides as softmax over bins."""
    bins = np.arange(head["bins"], dtype=np.float32)
    for stride, score, box in zip(head["strides"], head["scores"], head["boxes"], strict=True):
        scores = outputs[score]
        best = scores.max(1)
        cells = np.flatnonzero(best > threshold)
        side = round(len(scores) ** 0.5)
        powers = outputs[box][cells].reshape(-1, 4, len(bins))
        powers = np.exp(powers - powers.max(2, keepdims=True))
        distances = powers @ bins / powers.sum(2) * stride
        x, y = (cells % side + 0.5) * stride, (cells // side + 0.5) * stride
        corners = np.stack([x, y, x, y], 1)
        corners[:, :2] -= distances[:, :2]
        corners[:, 2:] += distances[:, 2:]
        yield corners, scores[cells].argmax(1).astype(np.int32), best[cells]


def _anchors(grid: np.ndarray, anchors: np.ndarray, stride: int, labels: int, threshold: float):
    """Anchors in pixels; with one class, objectness is the score, with more, it is times the class's sigmoid."""
    count, _, _, columns = grid.shape
    cells = grid.reshape(count, grid.shape[1], -1)
    logit = np.log(threshold / (1 - threshold))
    anchor, place = np.nonzero(cells[:, 4] > logit)  # the score is not above the objectness
    chosen = cells[anchor, :, place].astype(np.float64)
    scores = _sigmoid(chosen[:, 4])
    classes = np.zeros(len(chosen), np.int32)
    if labels > 1:
        classes = chosen[:, 5:].argmax(1).astype(np.int32)
        scores = scores * _sigmoid(chosen[np.arange(len(chosen)), 5 + classes])
    x = (_sigmoid(chosen[:, 0]) + place % columns) * stride
    y = (_sigmoid(chosen[:, 1]) + place // columns) * stride
    half = np.exp(np.minimum(chosen[:, 2:4], _LOG_SIZE_MAX)) * anchors[anchor] / 2
    boxes = np.stack([x - half[:, 0], y - half[:, 1], x + half[:, 0], y + half[:, 1]], 1)
    passes = scores > threshold
    return boxes[passes], classes[passes], scores[passes].astype(np.float32)


_LOG_SIZE_MAX = 8.0


def _yolov2(head: dict, outputs: dict, labels: int, threshold: float):
    if labels != 1:
        raise NotImplementedError("the peers have YOLOv2 of one class alone")
    anchors = np.array(head["anchors"]) * head["cell"]
    grid = outputs[head["output"]]
    yield _anchors(grid.reshape(len(anchors), 5, *grid.shape[-2:]), anchors, head["cell"], labels, threshold)


def _resnet_anchor(head: dict, outputs: dict, labels: int, threshold: float):
    for output, stride, anchors in zip(head["outputs"], head["strides"], head["anchors"], strict=True):
        grid = outputs[output].reshape(len(anchors), 5 + labels, *outputs[output].shape[-2:])
        yield _anchors(grid, np.array(anchors), stride, labels, threshold)


_FAMILIES = {"nanodet": _nanodet, "yolov2": _yolov2, "resnet_anchor": _resnet_anchor}
