"""Images in tmpfs that a request names instead of bringing them."""

import json
import os

import numpy as np


def read(request: bytes) -> np.ndarray:
    """Return the bytes that JSON `{"path", "offset", "size"}` names."""
    named = json.loads(request)
    return read_part(named["path"], named["offset"], named["size"])


def read_part(path: str, offset: int, size: int) -> np.ndarray:
    """Return bytes of a file."""
    encoded = np.empty(size, np.uint8)
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.preadv(file, [encoded], offset) != size:
            raise ValueError(f"{path} ends before byte {offset + size}")
    finally:
        os.close(file)
    return encoded
