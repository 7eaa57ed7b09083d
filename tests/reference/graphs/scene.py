"""A painted image: red and green objects of three sizes, at its borders and upon one another."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# The image is letterboxed into a tensor of SIDE x SIDE: SCALE of its pixels to one of the tensor, PAD rows above and
# below.
SIDE, SCALE, PAD = 416, 2, 32
WIDTH, HEIGHT = SIDE * SCALE, (SIDE - 2 * PAD) * SCALE
NOISE_MAX = 30
# Of an object's side: the corner that is not painted, so that its mask is none of a box's.
NOTCH = 4


@dataclass(frozen=True)
class Painted:
    """An object: its class, the stride that finds it, and the cell of that stride at its centre."""

    label: int
    stride: int
    column: int
    row: int

    def edges(self) -> np.ndarray:
        """Return (x0, y0, x1, y1) in pixels of the image, which may reach beyond it."""
        middle = (np.array([self.column, self.row] * 2) + 0.5) * self.stride
        half = 1.75 * self.stride
        return (middle + np.array([-half, -half, half, half]) - [0, PAD, 0, PAD]) * SCALE


# Red and green that overlap by more than NMS lets pass, over the top left corner; two sizes over the bottom right one;
# two small ones at the bottom; two of one class side by side.
OBJECTS = [
    Painted(0, 32, 1, 2),
    Painted(1, 32, 2, 2),
    Painted(0, 32, 11, 10),
    Painted(1, 16, 19, 18),
    Painted(0, 16, 13, 4),
    Painted(0, 16, 18, 4),
    Painted(0, 8, 2, 46),
    Painted(1, 8, 3, 46),
]


def pixels(painted: Painted) -> np.ndarray:
    """Return which pixels of the image are the object's."""
    x0, y0, x1, y1 = painted.edges()
    y, x = np.arange(HEIGHT)[:, None] + 0.5, np.arange(WIDTH) + 0.5
    notch = (x1 - x0) / NOTCH
    inside = (x0 < x) & (x < x1) & (y0 < y) & (y < y1)
    return inside & ~((x > x1 - notch) & (y > y1 - notch))


def paint(path: Path, objects: list[Painted]) -> None:
    """Write an image of these objects on dark noise."""
    image = np.random.default_rng(5).integers(0, NOISE_MAX, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for painted in objects:
        image[pixels(painted), painted.label] = 255
    Image.fromarray(image).save(path, compress_level=1)


def drawn(rng: np.random.Generator) -> list[Painted]:
    """Return some objects of all sizes anywhere in the image."""
    objects = []
    for stride in rng.choice([8, 16, 32], rng.integers(3, 8)):
        rows = int(rng.integers(PAD // stride + 2, (SIDE - PAD) // stride - 2))
        objects.append(Painted(int(rng.integers(2)), int(stride), int(rng.integers(2, SIDE // stride - 2)), rows))
    return objects


def truth(strides: list[int]) -> list[dict]:
    """Return class, box and mask of the objects that these strides find, in pixels of the image."""
    found = []
    for painted in OBJECTS:
        if painted.stride in strides:
            box = np.clip(painted.edges(), 0, [WIDTH, HEIGHT] * 2)
            x0, y0, x1, y1 = box.astype(int)
            found.append({"class": painted.label, "box": box.tolist(), "mask": pixels(painted)[y0:y1, x0:x1]})
    return found
