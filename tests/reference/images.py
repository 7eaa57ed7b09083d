"""Photos to tensors: decode, sample bilinearly, normalise.

A frame is uint8 RGB, rows x columns x 3, its EXIF orientation applied. All sampling goes straight
from the frame to the wanted size with half-pixel centres and two taps an axis (OpenCV's
INTER_LINEAR): output pixel i of n lies at `first + (i + 0.5) * length / n - 0.5` in the source, and
coordinates outside the frame take its edge's pixel.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def load_photo(path: Path) -> np.ndarray:
    """Return a photo as a frame."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _taps(first: float, length: float, count: int, limit: int):
    """Return, for each output pixel of one axis, its two source pixels and the second's weight."""
    positions = first + (np.arange(count) + 0.5) * (length / count) - 0.5
    positions = np.clip(positions, 0, limit - 1)
    lower = np.floor(positions).astype(int)
    upper = np.minimum(lower + 1, limit - 1)
    return lower, upper, (positions - lower).astype(np.float32)


def sample(frame: np.ndarray, box: tuple, width: int, height: int) -> np.ndarray:
    """Sample the box (x1, y1, x2, y2, in pixels) of a frame to `height` x `width` float pixels."""
    x1, y1, x2, y2 = box
    left, right, across = _taps(x1, x2 - x1, width, frame.shape[1])
    top, bottom, down = _taps(y1, y2 - y1, height, frame.shape[0])
    across, down = across[None, :, None], down[:, None, None]
    upper_row = frame[top][:, left] * (1 - across) + frame[top][:, right] * across
    lower_row = frame[bottom][:, left] * (1 - across) + frame[bottom][:, right] * across
    return upper_row * (1 - down) + lower_row * down


@dataclass
class Placement:
    """How a frame lies in a tensor: scaled by (x, y), then moved by (x, y) tensor pixels."""

    scale: tuple[float, float]
    offset: tuple[int, int]

    def to_source(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes from tensor pixels to frame pixels."""
        return (boxes - np.tile(self.offset, 2)) / np.tile(self.scale, 2)

    def to_frame(self, boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Map boxes from tensor pixels to frame pixels, cut off at the frame's edges."""
        rows, columns = frame.shape[:2]
        return np.clip(self.to_source(boxes), 0, [columns, rows, columns, rows])


def normalised(pixels: np.ndarray, spec: dict) -> np.ndarray:
    """Turn RGB pixels into a 1 x 3 x height x width tensor in the manifest's channel order."""
    if spec["color"] == "bgr":
        pixels = pixels[:, :, ::-1]
    if spec["dtype"] == "u8":
        return np.rint(pixels).astype(np.uint8).transpose(2, 0, 1)[None]
    tensor = (pixels * np.float32(spec["scale"]) - np.float32(spec["mean"])) / np.float32(spec["std"])
    return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None], np.float32)


def fitted(frame: np.ndarray, box: tuple, spec: dict) -> tuple[np.ndarray, Placement]:
    """Turn a box of a frame into the tensor that the manifest's graph makes of it."""
    columns, rows = box[2] - box[0], box[3] - box[1]
    width, height = spec["width"], spec["height"]
    if spec["resize"] == "stretch":
        inner_width, inner_height = width, height
    else:
        scale = min(width / columns, height / rows)
        inner_width = max(1, int(columns * scale + 0.5))
        inner_height = max(1, int(rows * scale + 0.5))
    left, top = 0, 0
    if spec["resize"] == "letterbox":
        left, top = (width - inner_width) // 2, (height - inner_height) // 2
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = np.float32(spec["pad"])
    canvas[top : top + inner_height, left : left + inner_width] = sample(frame, box, inner_width, inner_height)
    placement = Placement((inner_width / columns, inner_height / rows), (left, top))
    return normalised(canvas, spec), placement


def frame_tensor(frame: np.ndarray, spec: dict) -> tuple[np.ndarray, Placement]:
    """Turn a whole frame into the tensor that the manifest's graph makes of it."""
    rows, columns = frame.shape[:2]
    return fitted(frame, (0, 0, columns, rows), spec)


def crop_box(box: tuple, margin: float, spec: dict) -> tuple:
    """Return what is cropped around a detection.

    `square`: a square about the box's centre, its side the box's longer one plus the margin on each
    side. `box`: the box itself, each side longer by the margin at both ends.
    """
    x1, y1, x2, y2 = box
    across, down = x2 - x1, y2 - y1
    if spec["crop"] == "square":
        across = down = max(across, down)
    half_width, half_height = across * (0.5 + margin), down * (0.5 + margin)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def crop_tensor(frame: np.ndarray, box: tuple, margin: float, spec: dict) -> np.ndarray:
    """Turn one detection's crop into the tensor that the manifest's graph makes of it."""
    return fitted(frame, crop_box(box, margin, spec), spec)[0]


def shown(box: tuple, spec: dict, placement: Placement) -> tuple:
    """Return the box of the frame that the whole tensor of a crop shows, its padding included."""
    corners = np.array([0, 0, spec["width"], spec["height"]])
    return tuple(placement.to_source(corners) + np.tile(box[:2], 2))
