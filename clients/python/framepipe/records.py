"""The results, as plain dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._generated import framepipe_pb2 as pb

if TYPE_CHECKING:
    import numpy as np

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the source image: top left and bottom right corner."""


@dataclass(frozen=True)
class Classification:
    """One of several classes that hold."""

    label: str
    score: float


@dataclass(frozen=True)
class Keypoint:
    """A point of an object, in pixels of the source image; it may lie beyond the image."""

    name: str
    x: float
    y: float
    score: float


@dataclass(frozen=True)
class Attribute:
    """What an attribute model says of one detection.

    `value` is a label or a text (str), a quantity (float), a vector (tuple of floats), the classes that hold, best
    first (tuple of Classification), or points (tuple of Keypoint); `score` is the confidence of a label or a text,
    and None for the others.
    """

    value: str | float | tuple[float, ...] | tuple[Classification, ...] | tuple[Keypoint, ...]
    score: float | None
    model: str


@dataclass(frozen=True)
class Mask:
    """Which pixels are an object's, in the part of the image that its box touches: `width` x `height` from (x, y).

    `counts` is COCO's uncompressed RLE of size [height, width]: lengths of runs of pixels, column by column, beginning
    with such as are not the object's.
    """

    x: int
    y: int
    width: int
    height: int
    counts: tuple[int, ...]

    def to_numpy(self) -> np.ndarray:
        """The part as an array of bool, height x width. Needs numpy.

        In an array of the image's size it is `whole[m.y : m.y + m.height, m.x : m.x + m.width]`.
        """
        import numpy as np

        values = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(values, self.counts).reshape(self.width, self.height).T


@dataclass(frozen=True)
class Detection:
    """One object. `attributes` goes by the attribute's name: `detection.attributes["age"].value`.

    Where several models give an attribute of the same name, the first in the server's order has the plain name
    and each further one is under "name@model", so that no model added later changes what a name means.

    `mask` is None where the detector draws none, or where the server's limit on masks' bytes left it out.
    """

    label: str
    class_index: int
    score: float
    box: Box
    attributes: dict[str, Attribute]
    mask: Mask | None = None


@dataclass(frozen=True)
class FrameError:
    """Why a frame has no detections. `code` is the name in the service definition: "SOURCE_GONE", "POISON", …"""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True)
class StageTime:
    """One stage's share of a frame's time, in microseconds: waiting for the stage, and in it."""

    stage: str
    queued_us: int
    busy_us: int


@dataclass(frozen=True)
class FrameResult:
    """The result of one frame: `error` is None, or `detections` is empty and `image_size` None.

    `sequence` is the result's place in the stream, `frame` the number that push answered, `batch_index` the
    place in that push. `image_size` is (width, height), the frame of all boxes. `detections_dropped` counts the
    objects, `crops_dropped` the objects' attributes and `masks_dropped` the masks that the server's limits cut off.

    `gap` is set in a report of results that the server dropped unread for their age: the first and the last sequence
    that are missing. Such a report is no frame's result: it has neither a name nor detections nor an error.

    `cached` is true where the server had kept the result of an image of the same content, by the same models, and gives
    it again (`cache.result_bytes_max` in its configuration; off unless said).
    """

    name: str
    sequence: int
    frame: int
    batch_index: int
    detections: tuple[Detection, ...]
    error: FrameError | None
    image_size: tuple[int, int] | None
    times: tuple[StageTime, ...]
    detections_dropped: int = 0
    crops_dropped: int = 0
    masks_dropped: int = 0
    gap: tuple[int, int] | None = None
    cached: bool = False


def frame_result(message: pb.FrameResult) -> FrameResult:
    """A result from its message. A result with neither outcome is an error of code UNSPECIFIED."""
    outcome = message.WhichOneof("outcome")
    found = message.detections if outcome == "detections" else None
    has_error = outcome not in ("detections", "gap")
    return FrameResult(
        name=message.name,
        sequence=message.sequence,
        frame=message.frame,
        batch_index=message.batch_index,
        detections=tuple(_detection(d) for d in found.detections) if found else (),
        error=FrameError(_error_code(message.error.code), message.error.message) if has_error else None,
        image_size=(found.image_width, found.image_height) if found else None,
        times=tuple(StageTime(t.stage, t.queued_us, t.busy_us) for t in message.times),
        detections_dropped=found.detections_dropped if found else 0,
        crops_dropped=found.crops_dropped if found else 0,
        masks_dropped=found.masks_dropped if found else 0,
        gap=(message.gap.first_sequence, message.gap.last_sequence) if outcome == "gap" else None,
        cached=message.cached,
    )


def _detection(message: pb.Detection) -> Detection:
    box = message.box
    attributes: dict[str, Attribute] = {}
    for attribute in message.attributes:
        key = attribute.name if attribute.name not in attributes else f"{attribute.name}@{attribute.model}"
        attributes[key] = _attribute(attribute)
    return Detection(
        label=message.label,
        class_index=message.class_index,
        score=message.score,
        box=(box.x0, box.y0, box.x1, box.y1),
        attributes=attributes,
        mask=_mask(message.mask) if message.HasField("mask") else None,
    )


def _mask(message: pb.Mask) -> Mask:
    return Mask(message.x, message.y, message.width, message.height, tuple(message.counts))


def _attribute(message: pb.Attribute) -> Attribute:
    kind = message.WhichOneof("value")
    if kind == "number":
        return Attribute(message.number, None, message.model)
    if kind == "embedding":
        return Attribute(tuple(message.embedding.values), None, message.model)
    if kind == "classifications":
        classes = message.classifications.classes
        return Attribute(tuple(Classification(c.label, c.score) for c in classes), None, message.model)
    if kind == "keypoints":
        points = message.keypoints.points
        return Attribute(tuple(Keypoint(p.name, p.x, p.y, p.score) for p in points), None, message.model)
    if kind == "text":
        return Attribute(message.text.text, message.text.score, message.model)
    return Attribute(message.classification.label, message.classification.score, message.model)


def _error_code(code: int) -> str:
    """A newer server may send a code that this client has no name for: it is given as its number."""
    try:
        return pb.ErrorCode.Name(code).replace("ERROR_CODE_", "")
    except ValueError:
        return str(code)
