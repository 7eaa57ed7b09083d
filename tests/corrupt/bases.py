"""The whole files that are corrupted: of each format several kinds, small, all of one photo."""

from __future__ import annotations

import io
import struct
from itertools import pairwise

import numpy as np
from bad_images import encoded, png_chunk, png_of
from PIL import Image

# No multiples of a JPEG's or a WebP's blocks, beside one that is.
SIZES = ((160, 128), (97, 61), (33, 17))
# Adam7: of each pass the first column and row, and the steps to the next ones.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def bases(photo: bytes) -> dict[str, list[bytes]]:
    """Return whole files by format."""
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    images = [image.resize(size) for size in SIZES]
    first, second, third = images
    qualities = [(first, 80), (second, 40), (third, 95)]
    return {
        "jpeg-baseline": [
            *(encoded(image, "JPEG", quality=quality, subsampling=2) for image, quality in qualities),
            encoded(first, "JPEG", subsampling=2, restart_marker_blocks=4, optimize=True),
        ],
        "jpeg-progressive": [
            *(encoded(image, "JPEG", progressive=True, subsampling=2) for image in images),
            encoded(first, "JPEG", progressive=True, subsampling=0, restart_marker_rows=1),
        ],
        "png": [
            encoded(first, "PNG"),
            encoded(second.quantize(200), "PNG", transparency=3),
            encoded(second.quantize(4), "PNG", bits=2),
            encoded(_with_alpha(third), "PNG"),
            encoded(second.convert("L"), "PNG"),
            _png_16(third),
            _interlaced(second),
            _turned(first, b"IDAT"),
            _turned(third, b"IEND"),
        ],
        "webp-lossy": [
            *(encoded(image, "WEBP", quality=quality) for image, quality in qualities),
            encoded(_with_alpha(second), "WEBP", quality=70),
        ],
        "webp-lossless": [
            *(encoded(image, "WEBP", lossless=True) for image in images),
            encoded(second.quantize(12).convert("RGB"), "WEBP", lossless=True),
            encoded(_with_alpha(second), "WEBP", lossless=True, exact=True),
        ],
        "bmp": [
            encoded(second, "BMP"),
            encoded(third.quantize(256), "BMP"),
            encoded(third.quantize(16), "BMP"),
            encoded(third.convert("1"), "BMP"),
            encoded(_with_alpha(third), "BMP"),
            _bmp_16(third),
            _bmp_32(third),
            _bmp_run_lengths(second.quantize(8)),
        ],
    }


def _with_alpha(image: Image.Image) -> Image.Image:
    with_alpha = image.copy()
    with_alpha.putalpha(Image.linear_gradient("L").resize(image.size))
    return with_alpha


def _png_16(image: Image.Image) -> bytes:
    pixels = (np.asarray(image).astype(">u2") * 257 + 13).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return png_of((*image.size, 16, 2, 0, 0, 0), rows, png_chunk(b"tEXt", b"Comment\0sixteen bits"))


def _interlaced(image: Image.Image) -> bytes:
    pixels = np.asarray(image)
    parts = [pixels[top::down, left::across] for left, top, across, down in PASSES]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    return png_of((*image.size, 8, 2, 0, 0, 1), rows)


def _turned(image: Image.Image, chunk: bytes) -> bytes:
    """Return a PNG that says, before `chunk`, that its top is at the right."""
    exif = struct.pack(">2sHIHHHIHxxI", b"MM", 42, 8, 1, 0x112, 3, 1, 6, 0)
    png = encoded(image, "PNG")
    at = png.index(chunk) - 4
    return png[:at] + png_chunk(b"eXIf", exif) + png[at:]


def _bmp(size: tuple[int, int], depth: int, compression: int, tables: bytes, pixels: bytes) -> bytes:
    width, height = size
    colors = len(tables) // 4 if depth <= 8 else 0
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(pixels), 2835, 2835, colors, 0)
    offset = 14 + len(head) + len(tables)
    return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + head + tables + pixels


def _bmp_16(image: Image.Image) -> bytes:
    """Return five, six and five bits a colour, by masks."""
    levels = np.asarray(image).astype("<u2")[::-1]
    packed = (levels[..., 0] >> 3 << 11) | (levels[..., 1] >> 2 << 5) | (levels[..., 2] >> 3)
    padding = bytes(2 * (image.width % 2))
    pixels = b"".join(row.astype("<u2").tobytes() + padding for row in packed)
    return _bmp(image.size, 16, 3, struct.pack("<III", 0xF800, 0x07E0, 0x001F), pixels)


def _bmp_32(image: Image.Image) -> bytes:
    """Return eight bits a colour, in the order of RGBA, by masks."""
    pixels = np.asarray(image.convert("RGBA"))[::-1].tobytes()
    return _bmp(image.size, 32, 3, struct.pack("<III", 0xFF, 0xFF00, 0xFF_0000), pixels)


def _bmp_run_lengths(image: Image.Image) -> bytes:
    """Return eight bits a pixel, in runs."""
    colors = bytes(image.getpalette())[: 3 * 8]
    tables = b"".join(colors[at : at + 3][::-1] + b"\0" for at in range(0, len(colors), 3))
    pixels = bytearray()
    for row in np.asarray(image)[::-1]:
        edges = [0, *(np.flatnonzero(np.diff(row)) + 1), len(row)]
        for left, right in pairwise(edges):
            pixels += bytes([right - left, row[left]])
        pixels += b"\0\0"
    return _bmp(image.size, 8, 1, tables, bytes(pixels) + b"\0\1")
