"""What other libraries make of an image's bytes: RGB8, the right way up, or nothing.

OpenCV decodes JPEG by libjpeg-turbo (of framepipe's version), PNG by libpng, WebP by libwebp, BMP by itself. Pillow has
a newer libjpeg-turbo and libwebp, and decodes PNG and BMP by itself. Neither blends alpha here.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image, ImageOps

Image.MAX_IMAGE_PIXELS = None
HIGH_BYTE_MODES = ("I", "I;16", "I;16B", "I;16L")


def opencv(data: bytes) -> np.ndarray | None:
    """Decode as OpenCV's users do."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:
        return None
    return None if pixels is None else pixels[:, :, ::-1]


def pillow(data: bytes) -> np.ndarray | None:
    """Decode as Pillow's users do; of 16 bits the high byte, of alpha nothing."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode in HIGH_BYTE_MODES:
                return np.repeat((np.asarray(upright) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
            return np.asarray(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))[:, :, :3]
    except Exception:  # Pillow's decoders raise whatever their Python code meets in broken bytes.
        return None


def bmp_masks(data: bytes) -> np.ndarray | None:
    """Decode a BMP of 32 bits whose masks say which byte is which colour: Pillow reads few, OpenCV heeds few."""
    if data[:2] != b"BM" or len(data) < 66 or data[28] != 32 or data[30] not in (3, 6):
        return None
    offset, width, height = struct.unpack_from("<I4xii", data, 10)
    masks = struct.unpack_from("<III", data, 54)
    end = offset + 4 * width * abs(height)
    if len(data) < end or any(mask not in (0xFF, 0xFF00, 0xFF_0000, 0xFF00_0000) for mask in masks):
        return None
    pixels = np.frombuffer(data[offset:end], np.uint8).reshape(abs(height), width, 4)
    rows = pixels[::-1] if height > 0 else pixels
    return rows[:, :, [(mask.bit_length() - 1) // 8 for mask in masks]]


Decode = Callable[[bytes], np.ndarray | None]
REFERENCES: dict[str, Decode] = {"OpenCV": opencv, "Pillow": pillow, "the masks": bmp_masks}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what C libraries say on standard error about broken images."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
