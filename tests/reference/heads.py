"""Detector heads: from a graph's outputs to candidate boxes.

Every head returns (boxes, scores): boxes n x 4 (x1, y1, x2, y2, in tensor pixels), scores n x
classes. `outputs` maps the names of output tensors to arrays without their batch dimension.
"""

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


def _anchor_boxes(grid: np.ndarray, anchors: np.ndarray, stride: int) -> np.ndarray:
    """Decode x, y, w, h of anchors x channels x rows x columns; `anchors` are in pixels."""
    _, _, rows, columns = grid.shape
    row, column = np.mgrid[:rows, :columns]
    x = (sigmoid(grid[:, 0]) + column) * stride
    y = (sigmoid(grid[:, 1]) + row) * stride
    sizes = np.exp(np.minimum(grid[:, 2:4].astype(np.float64), LOG_SIZE_MAX))
    half_width, half_height = np.moveaxis(sizes * anchors[:, :, None, None] / 2, 1, 0)
    corners = [x - half_width, y - half_height, x + half_width, y + half_height]
    return np.stack(corners, -1).reshape(-1, 4)


def yolov2(head: dict, labels: int, outputs: dict, width: int, height: int):
    """YOLOv2: anchors in cells; with one class, objectness is the score; with more, a softmax."""
    anchors = np.array(head["anchors"]) * head["cell"]
    channels = 5 if labels == 1 else 5 + labels
    grid = outputs[head["output"]]
    grid = grid.reshape(len(anchors), channels, *grid.shape[-2:])
    scores = sigmoid(grid[:, 4])[..., None]
    if labels > 1:
        scores = scores * softmax(np.moveaxis(grid[:, 5:], 1, -1))
    return _anchor_boxes(grid, anchors, head["cell"]), scores.reshape(-1, labels)


def resnet_anchor(head: dict, labels: int, outputs: dict, width: int, height: int):
    """Anchors in pixels on several strides; the score is objectness times class, both sigmoids."""
    boxes, scores = [], []
    rows = zip(head["outputs"], head["strides"], head["anchors"], strict=True)
    for output, stride, anchors in rows:
        grid = outputs[output].reshape(len(anchors), 5 + labels, *outputs[output].shape[-2:])
        boxes.append(_anchor_boxes(grid, np.array(anchors), stride))
        classes = sigmoid(np.moveaxis(grid[:, 5:], 1, -1))
        scores.append((sigmoid(grid[:, 4])[..., None] * classes).reshape(-1, labels))
    return np.concatenate(boxes), np.concatenate(scores)


HEADS = {"nanodet": nanodet, "yolov2": yolov2, "resnet_anchor": resnet_anchor}
