"""What other libraries make of an image's bytes: RGB8, the right way up, or nothing.

OpenCV decodes JPEG by libjpeg-turbo (of the version that framepipe builds), PNG by libpng, WebP by libwebp, BMP by itself;
Pillow by a newer libjpeg-turbo and libwebp, PNG and BMP by itself. Neither blends alpha here.
"""

from __future__ import annotations

import contextlib
import io
import os
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


REFERENCES: dict[str, Callable[[bytes], np.ndarray | None]] = {"OpenCV": opencv, "Pillow": pillow}


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
