"""Detector heads: from a graph's outputs to candidate boxes.

Every head returns (boxes, scores): boxes n x 4 (x1, y1, x2, y2, in tensor pixels), scores n x
classes. `outputs` maps the names of output tensors to arrays without their batch dimension. A number
that is none makes none of what depends on it.
"""

from itertools import product

import numpy as np

LOG_SIZE_MAX = 8.0


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x.astype(np.float64)))


def softmax(x: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def nanodet(head: dict, labels: int, outputs: dict, width: int, height: int):
    """NanoDet: scores with the sigmoid done, distances to the four sides as softmax over bins."""
    boxes, scores = [], []
    for stride, score, box in zip(head["strides"], head["scores"], head["boxes"], strict=True):
        columns, rows = -(-width // stride), -(-height // stride)
        y, x = np.mgrid[:rows, :columns].reshape(2, -1) * stride + stride / 2
        bins = outputs[box].reshape(rows * columns, 4, head["bins"])
        left, top, right, bottom = (softmax(bins) @ np.arange(head["bins"])).T * stride
        boxes.append(np.stack([x - left, y - top, x + right, y + bottom], 1))
        scores.append(outputs[score].reshape(rows * columns, labels))
    return np.concatenate(boxes), np.concatenate(scores)


def _corners(x: np.ndarray, y: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return boxes by their corners, n x 4, of boxes by their centres."""
    corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    return np.stack([corner.reshape(-1) for corner in corners], 1)


def _anchor_boxes(grid: np.ndarray, anchors: np.ndarray, stride: int, log_max: float, squash=sigmoid) -> np.ndarray:
    """Decode x, y, w, h of anchors x channels x rows x columns; `anchors` are in pixels."""
    _, _, rows, columns = grid.shape
    row, column = np.mgrid[:rows, :columns]
    x = (squash(grid[:, 0]) + column) * stride
    y = (squash(grid[:, 1]) + row) * stride
    sizes = np.exp(np.minimum(grid[:, 2:4].astype(np.float64), log_max)) * anchors[:, :, None, None]
    return _corners(x, y, sizes[:, 0], sizes[:, 1])


def yolov2(head: dict, labels: int, outputs: dict, width: int, height: int):
    """YOLOv2: anchors in cells; with one class, objectness is the score; with more, a softmax."""
    anchors = np.array(head["anchors"]) * head["cell"]
    channels = 5 if labels == 1 else 5 + labels
    grid = outputs[head["output"]]
    grid = grid.reshape(len(anchors), channels, *grid.shape[-2:])
    scores = sigmoid(grid[:, 4])[..., None]
    if labels > 1:
        scores = scores * softmax(np.moveaxis(grid[:, 5:], 1, -1))
    return _anchor_boxes(grid, anchors, head["cell"], np.inf), scores.reshape(-1, labels)


def resnet_anchor(head: dict, labels: int, outputs: dict, width: int, height: int):
    """Anchors in pixels on several strides; the score is objectness times class, both sigmoids."""
    boxes, scores = [], []
    rows = zip(head["outputs"], head["strides"], head["anchors"], strict=True)
    for output, stride, anchors in rows:
        grid = outputs[output].reshape(len(anchors), 5 + labels, *outputs[output].shape[-2:])
        boxes.append(_anchor_boxes(grid, np.array(anchors), stride, LOG_SIZE_MAX))
        classes = sigmoid(np.moveaxis(grid[:, 5:], 1, -1))
        scores.append((sigmoid(grid[:, 4])[..., None] * classes).reshape(-1, labels))
    return np.concatenate(boxes), np.concatenate(scores)


def _shares(numbers: np.ndarray) -> np.ndarray:
    """Return factors of a score, none of which is more than 1 or less than 0, whatever the graph puts out."""
    return np.clip(numbers, 0, 1)


def yolov3(head: dict, labels: int, outputs: dict, width: int, height: int):
    """YOLOv3: as the anchors of a ResNet, of any size; or boxes x (box, objectness, classes), decoded by the graph."""
    ((form, options),) = head.items()
    if form == "exported":
        rows = outputs[options["output"]].astype(np.float64)
        return _corners(*rows[:, :4].T), _shares(rows[:, 4:5]) * _shares(rows[:, 5:])

    def squash(x: np.ndarray) -> np.ndarray:
        return x.astype(np.float64) if options["sigmoid_done"] else sigmoid(x)

    boxes, scores = [], []
    for output, stride, anchors in zip(options["outputs"], options["strides"], options["anchors"], strict=True):
        grid = outputs[output].reshape(len(anchors), 5 + labels, height // stride, width // stride)
        boxes.append(_anchor_boxes(grid, np.array(anchors), stride, np.inf, squash))
        shares = _shares(squash(np.moveaxis(grid[:, 4:], 1, -1)))
        scores.append((shares[..., :1] * shares[..., 1:]).reshape(-1, labels))
    return np.concatenate(boxes), np.concatenate(scores)


def yolov8(head: dict, labels: int, outputs: dict, width: int, height: int):
    """YOLOv8: (box, scores) x cells, decoded by the graph; or distances over bins and class logits, by stride."""
    ((form, options),) = head.items()
    if form == "exported":
        numbers = outputs[options["output"]].astype(np.float64)
        return _corners(*numbers[:4]), numbers[4:].T
    boxes, scores = [], []
    bins = options["bins"]
    for output, stride in zip(options["outputs"], options["strides"], strict=True):
        cells = outputs[output].astype(np.float64).reshape(4 * bins + labels, -1)
        y, x = (np.mgrid[: height // stride, : width // stride].reshape(2, -1) + 0.5) * stride
        shares = softmax(cells[: 4 * bins].reshape(4, bins, -1).transpose(0, 2, 1))
        left, top, right, bottom = shares @ np.arange(bins) * stride
        boxes.append(np.stack([x - left, y - top, x + right, y + bottom], 1))
        scores.append(sigmoid(cells[4 * bins :].T))
    return np.concatenate(boxes), np.concatenate(scores)


def _activated(activation: str, numbers: np.ndarray) -> np.ndarray:
    """Return scores of a row's numbers, by the manifest's activation."""
    functions = {"none": lambda x: x, "sigmoid": sigmoid, "softmax": softmax}
    return functions[activation](numbers.astype(np.float64))


def rtdetr(head: dict, labels: int, outputs: dict, width: int, height: int):
    """One box a query, as shares of the sides; with softmax, the last class is "no object"."""
    boxes = outputs[head["boxes"]].astype(np.float64) * [width, height, width, height]
    return _corners(*boxes.T), _activated(head["activation"], outputs[head["scores"]])[:, :labels]


def ssd_priors(options: dict, width: int, height: int) -> np.ndarray:
    """Return priors (centre x, centre y, width, height, in pixels), as Caffe's PriorBox layers make them."""
    priors = []
    for level in options["levels"]:
        rows, columns = level["grid"]
        for row, column in product(range(rows), range(columns)):
            centre = (column + 0.5) * level["step"], (row + 0.5) * level["step"]
            for index, smallest in enumerate(level["min_sizes"]):
                priors.append((*centre, smallest, smallest))
                if level.get("max_sizes"):
                    side = np.sqrt(smallest * level["max_sizes"][index])
                    priors.append((*centre, side, side))
                for ratio in level.get("aspect_ratios", []):
                    priors.append((*centre, smallest * np.sqrt(ratio), smallest / np.sqrt(ratio)))
                    priors.append((*centre, smallest / np.sqrt(ratio), smallest * np.sqrt(ratio)))
    priors = np.array(priors)
    if options["clip"]:
        low, high = priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2
        low, high = np.clip(low, 0, [width, height]), np.clip(high, 0, [width, height])
        priors = np.concatenate([(low + high) / 2, high - low], 1)
    return priors


def ssd(head: dict, labels: int, outputs: dict, width: int, height: int):
    """SSD: offsets from priors, the first class being the background; or the boxes that the graph's NMS left."""
    ((form, options),) = head.items()
    boxes = outputs[options["boxes"]].astype(np.float64)
    if form == "priors":
        priors, offsets = ssd_priors(options, width, height), boxes * options["variances"]
        centres = priors[:, :2] + offsets[:, :2] * priors[:, 2:]
        sizes = priors[:, 2:] * np.exp(offsets[:, 2:])
        scores = _activated(options["activation"], outputs[options["scores"]])
        return _corners(*centres.T, *sizes.T), scores[:, 1:]
    if options["order"] == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    if options["normalized"]:
        boxes = boxes * [width, height, width, height]
    count = options["count_max"]
    if "count" in options:
        number = float(outputs[options["count"]])
        count = 0 if np.isnan(number) else int(np.clip(round(number), 0, count))
    classes, given = outputs[options["classes"]][:count], outputs[options["scores"]][:count]
    return boxes[:count], _labelled(classes, given, options["first_class"], labels)


def _labelled(numbers: np.ndarray, scores: np.ndarray, first_class: int, labels: int) -> np.ndarray:
    """Return scores by label of rows with a class number and a score each."""
    table = np.full((len(numbers), labels), np.nan)
    for row, (number, score) in enumerate(zip(numbers, scores, strict=True)):
        label = np.rint(number) - first_class
        if 0 <= label < labels:
            table[row, int(label)] = score
    return table


def maskrcnn(head: dict, labels: int, outputs: dict, width: int, height: int):
    """Mask R-CNN: boxes in pixels, classes and scores, of a graph that has done the rest; `paste` draws its masks."""
    scores = _labelled(outputs[head["classes"]], outputs[head["scores"]], head["first_class"], labels)
    return outputs[head["boxes"]].astype(np.float64), scores


def dbnet(head: dict, labels: int, outputs: dict, width: int, height: int):
    """DBNet: pixels above the threshold that touch are a region; its upright box grows by area * ratio / perimeter."""
    numbers = outputs[head["output"]].reshape(height, width)
    waiting = set(zip(*np.nonzero(numbers > head["threshold"]), strict=True))
    boxes, scores = [], []
    while waiting:
        region, edge = [], [waiting.pop()]
        while edge:
            row, column = edge.pop()
            region.append((row, column))
            around = set(product(range(row - 1, row + 2), range(column - 1, column + 2))) & waiting
            waiting -= around
            edge.extend(around)
        rows, columns = np.array(region).T
        top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        if min(right - left, bottom - top) < head["side_min"]:
            continue
        area, perimeter = (right - left) * (bottom - top), 2 * (right - left + bottom - top)
        grown = area * head["unclip_ratio"] / perimeter
        boxes.append([left - grown, top - grown, right + grown, bottom + grown])
        scores.append([numbers[rows, columns].astype(np.float64).mean()])
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(scores, np.float64).reshape(-1, 1)


def paste(mask: np.ndarray, box: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """Return which pixels of `window` (x0, y0, x1, y1) are the object's, whose mask is drawn for `box`.

    Bilinear between the centres of the mask's cells, zeroes around it, 0.5 at least (detectron2's paste).
    """
    padded = np.pad(mask.astype(np.float64), 1)

    def places(first: int, end: int, edges: tuple, side: int) -> tuple:
        place = np.clip((np.arange(first, end) + 0.5 - edges[0]) / (edges[1] - edges[0]) * side + 0.5, 0, side + 1)
        lower = np.minimum(place.astype(int), side)
        return lower, place - lower

    column, across = places(window[0], window[2], (box[0], box[2]), mask.shape[1])
    row, down = places(window[1], window[3], (box[1], box[3]), mask.shape[0])
    columns = padded[:, column] + (padded[:, column + 1] - padded[:, column]) * across
    return columns[row] + (columns[row + 1] - columns[row]) * down[:, None] >= 0.5


def runs(pixels: np.ndarray) -> list[int]:
    """Return COCO's uncompressed run lengths, column by column."""
    flat = pixels.T.reshape(-1)
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], ends, [len(flat)]]))
    return ([0] if flat[0] else []) + lengths.tolist()


def is_end_to_end(family: str, head: dict) -> bool:
    """Say whether the graph puts out each object once, so that there is no NMS."""
    return family in ("rtdetr", "maskrcnn", "dbnet") or (family == "ssd" and "exported" in head)


def is_without_batch(family: str, head: dict, outputs: dict) -> bool:
    """Say whether the graph's outputs are those of one image, with no dimension for a batch."""
    boxes = head["boxes"] if family == "maskrcnn" else head.get("exported", {}).get("boxes")
    return boxes in outputs and outputs[boxes].ndim == 2


HEADS = {
    "nanodet": nanodet,
    "yolov2": yolov2,
    "yolov3": yolov3,
    "yolov8": yolov8,
    "ssd": ssd,
    "rtdetr": rtdetr,
    "maskrcnn": maskrcnn,
    "resnet_anchor": resnet_anchor,
    "dbnet": dbnet,
}
