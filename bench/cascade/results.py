"""What is found in an image, in plain types: they go from process to process. Needs neither OpenCV nor ONNX Runtime."""

from typing import NamedTuple

import numpy as np

Detection = tuple[float, float, float, float, int, float]
"""x0, y0, x1, y1 in the image's pixels; the class; the score."""

Attribute = tuple[str, str, str, object]
"""The model's name, the attribute's; "class", (label, score, index), or "number", it, or "vector", its values."""


class Placement(NamedTuple):
    """How an image lies in a tensor: scaled by (x, y), then moved by (x, y) tensor pixels; and the image's size."""

    scale_x: float
    scale_y: float
    left: int
    top: int
    width: int
    height: int

    def to_image(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes from tensor pixels to the image's, cut off at its edges."""
        moved = boxes - (self.left, self.top, self.left, self.top)
        moved /= (self.scale_x, self.scale_y, self.scale_x, self.scale_y)
        return np.clip(moved, 0, (self.width, self.height, self.width, self.height), out=moved)
