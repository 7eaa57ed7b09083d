"""What `push` takes: paths, encoded bytes or raw arrays, each with a name for its result."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Union

from ._generated import framepipe_pb2 as pb
from .errors import InvalidRequest

PathOrBytes = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview]
Image = Union[PathOrBytes, tuple[str, PathOrBytes], Any]
"""A path, bytes, an array of uint8 (anything with the buffer protocol), or (name, one of these)."""

_FORMATS = {
    "rgb24": pb.PIXEL_FORMAT_RGB24,
    "bgr24": pb.PIXEL_FORMAT_BGR24,
    "gray8": pb.PIXEL_FORMAT_GRAY8,
    "nv12": pb.PIXEL_FORMAT_NV12,
    "i420": pb.PIXEL_FORMAT_I420,
}
HOLDS = {"reference": pb.HOLD_REFERENCE, "copy": pb.HOLD_COPY}
_PLANAR = ("nv12", "i420")


@dataclass(frozen=True)
class Images:
    """A batch to push: one name and one source (a path, or the bytes themselves) for each image."""

    names: list[str]
    sources: list[str | memoryview | bytes]
    raw: pb.RawFrameFormat | None


def read(images: Iterable[Image], names: Sequence[str] | None, pixel_format: str | None) -> Images:
    """Sorts out a caller's images without reading a file.

    Names default to the file's own name, or "image-INDEX".

    >>> read(["street/a.jpg", b"...", ("door", b"...")], None, None).names
    ['a.jpg', 'image-1', 'door']
    """
    if isinstance(images, (str, bytes, bytearray, os.PathLike)):
        raise InvalidRequest(f"images is one {type(images).__name__}: give a list, as in push([image])")
    found_names: list[str] = []
    sources: list[str | memoryview | bytes] = []
    shapes: set[tuple[int, ...] | None] = set()
    for index, image in enumerate(images):
        name, source = image if isinstance(image, tuple) else (None, image)
        if isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            sources.append(path)
            shapes.add(None)
            found_names.append(name or os.path.basename(path))
        else:
            view = _view(source, index)
            sources.append(view.cast("B") if view.c_contiguous else view.tobytes())
            shapes.add(view.shape if view.ndim > 1 else None)
            found_names.append(name or f"image-{index}")
    if not sources:
        raise InvalidRequest("there are no images to push")
    if len(shapes) > 1:
        raise InvalidRequest(f"raw frames of one push have one shape, and no files among them: {shapes}")
    if names is not None:
        check_count("names", names, len(sources))
        found_names = list(names)
    return Images(found_names, sources, _raw_format(shapes.pop(), pixel_format))


def check_count(what: str, given: Sequence[object], images: int) -> None:
    """There must be one of `given` an image."""
    if len(given) != images:
        raise InvalidRequest(f"{len(given)} {what} for {images} images")


def hold_of(name: str) -> pb.Hold:
    """Who keeps the images until their results come: the client ("reference"), or the server ("copy")."""
    if name not in HOLDS:
        raise InvalidRequest(f"hold is {name!r}: it is one of {', '.join(HOLDS)}")
    return HOLDS[name]


def raw_format(pixel_format: str, width: int, height: int, stride: int = 0) -> pb.RawFrameFormat:
    """The geometry of raw frames; `pixel_format` is "rgb24", "bgr24", "gray8", "nv12" or "i420".

    `width` and `height` are the picture's. `stride` is the bytes from one row to the next, of NV12 and I420 from one
    row of luma to the next; 0: the rows lie close together. The service definition says how their planes lie.
    """
    if pixel_format not in _FORMATS:
        raise InvalidRequest(f"pixel_format is {pixel_format!r}: it is one of {', '.join(_FORMATS)}")
    return pb.RawFrameFormat(format=_FORMATS[pixel_format], width=width, height=height, stride=stride)


def _view(source: Any, index: int) -> memoryview:
    try:
        view = memoryview(source)
    except TypeError:
        kind = type(source).__name__
        raise InvalidRequest(f"image {index} is a {kind}: give a path, bytes or a uint8 array") from None
    if view.format != "B" or (view.ndim > 1 and view.nbytes == 0):
        raise InvalidRequest(f"image {index} has shape {view.shape}, format {view.format!r}: it must be of uint8")
    return view


def _raw_format(shape: tuple[int, ...] | None, pixel_format: str | None) -> pb.RawFrameFormat | None:
    if shape is None:
        if pixel_format is not None:
            raise InvalidRequest("pixel_format is for arrays; the images are paths or encoded bytes")
        return None
    if pixel_format in _PLANAR:
        return _planar_format(shape, pixel_format)
    gray = len(shape) == 2
    if not gray and (len(shape) != 3 or shape[2] != 3):
        raise InvalidRequest(f"an array of shape {shape}: it must be (height, width, 3) or (height, width)")
    if pixel_format is not None and (pixel_format == "gray8") != gray:
        raise InvalidRequest(f"pixel_format {pixel_format} does not go with an array of shape {shape}")
    return raw_format(pixel_format or ("gray8" if gray else "rgb24"), width=shape[1], height=shape[0])


def _planar_format(shape: tuple[int, ...], pixel_format: str) -> pb.RawFrameFormat:
    """As OpenCV lays planes out: as many rows below the picture's as half of it has."""
    if len(shape) != 2 or shape[0] % 3 or shape[1] % 2:
        raise InvalidRequest(
            f"pixel_format {pixel_format} does not go with an array of shape {shape}: "
            "it must be (height * 3 / 2, width) of a picture with even sides; push_files takes others"
        )
    return raw_format(pixel_format, width=shape[1], height=shape[0] // 3 * 2)
