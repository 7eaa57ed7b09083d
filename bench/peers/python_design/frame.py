"""What the queues carry."""

from typing import NamedTuple

import numpy as np
from cascade.results import Attribute, Detection, Placement


class Source(NamedTuple):
    """Where an image lies: bytes of a file, and the geometry (width, height, is RGB) of a raw frame."""

    path: str
    offset: int
    size: int
    raw: tuple[int, int, bool] | None


class Frame(NamedTuple):
    """One frame between two stages. `arrays` are what the next stages need, in the variant `queues` alone."""

    number: int
    slot: int
    source: Source
    placement: Placement | None = None
    arrays: tuple[np.ndarray, ...] = ()


class Result(NamedTuple):
    """What came of a frame: objects and their attributes, or an error. `size` is the image's, (width, height)."""

    number: int
    slot: int
    size: tuple[int, int]
    detections: list[Detection]
    attributes: list[list[Attribute]]
    error: str = ""


class Ready(NamedTuple):
    """A process is ready to work."""

    stage: str
