"""Bad and odd images: what clients do send, and what somebody would send to bring a decoder down.

`bad_images(photo)` gives each by its name, made of a baseline JPEG; the same bytes each time.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
BOMB_SIDE = 30_000


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encode an image in memory."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk, with a CRC that fits."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(header: tuple[int, ...], rows: bytes, before: bytes = b"") -> bytes:
    """Return a PNG: the seven numbers of IHDR, filtered rows, and chunks to stand before them."""
    data = png_chunk(b"IDAT", zlib.compress(rows, 9))
    return PNG_MAGIC + png_chunk(b"IHDR", struct.pack(">IIBBBBB", *header)) + before + data + png_chunk(b"IEND", b"")


def bad_images(photo: bytes) -> Iterator[tuple[str, bytes]]:
    """Give names and bytes."""
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    yield from _bad_jpegs(photo, image)
    yield from _odd_jpegs(image)
    yield from _jpeg_bombs(photo, image)
    yield from _pngs(image)
    webp = encoded(image, "WEBP")
    yield "whole.webp", webp
    yield "cut.webp", webp[: len(webp) // 2]
    bmp = encoded(image, "BMP")
    yield "whole.bmp", bmp
    yield "cut.bmp", bmp[: len(bmp) // 2]
    yield "bomb.bmp", _patched(bmp[: len(bmp) // 2], 18, struct.pack("<ii", 60_000, 60_000))


def _bad_jpegs(photo: bytes, image: Image.Image) -> Iterator[tuple[str, bytes]]:
    yield "empty.jpg", b""
    yield "start-marker.jpg", b"\xff\xd8"
    yield "cut-header.jpg", photo[:300]
    yield "cut.jpg", photo[: len(photo) // 2]
    noise = np.random.default_rng(1).bytes(50_000)
    yield "noise.jpg", noise
    yield "noise-behind-header.jpg", photo[:20] + noise
    random = np.random.default_rng(2)
    places = (("data-40-bytes.jpg", 700, len(photo) - 2, 40), ("header-20-bytes.jpg", 20, 620, 20))
    for name, first, end, count in places:
        bytes_of = bytearray(photo)
        for at in random.integers(first, end, count):
            bytes_of[at] = int(random.integers(0, 256))
        yield name, bytes(bytes_of)
    yield "sides-of-zero.jpg", _patched(photo, photo.index(b"\xff\xc0") + 5, bytes(4))


def _odd_jpegs(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    yield "cmyk.jpg", encoded(image.convert("CMYK"), "JPEG")
    yield "grey.jpg", encoded(image.convert("L"), "JPEG")
    yield "progressive.jpg", encoded(image, "JPEG", progressive=True)
    exif = Image.Exif()
    exif[0x112] = 6
    yield "orientation-6.jpg", encoded(image, "JPEG", exif=exif)
    yield "444.jpg", encoded(image, "JPEG", subsampling=0)
    yield "422.jpg", encoded(image, "JPEG", subsampling=1)
    yield "1x1.jpg", encoded(image.crop((0, 0, 1, 1)), "JPEG")
    yield "33x17.jpg", encoded(image.crop((0, 0, 33, 17)), "JPEG")


def _jpeg_bombs(photo: bytes, image: Image.Image) -> Iterator[tuple[str, bytes]]:
    yield "bomb.jpg", _patched(photo, photo.index(b"\xff\xc0") + 5, struct.pack(">HH", 65_500, 65_500))
    progressive = encoded(image, "JPEG", progressive=True)
    sides = struct.pack(">HH", 20_000, 20_000)
    yield "bomb-progressive.jpg", _patched(progressive, progressive.index(b"\xff\xc2") + 5, sides)
    # The head of the last scan again and again, with next to no bytes.
    large = encoded(image.resize((2000, 2000)), "JPEG", progressive=True)
    scan = large[large.rindex(b"\xff\xda") :][:12] + bytes(2)
    yield "scans.jpg", large[:-2] + 3000 * scan + large[-2:]


def _pngs(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    with_alpha = image.copy()
    with_alpha.putalpha(128)
    rgba = encoded(with_alpha, "PNG")
    yield "alpha.png", rgba
    yield "palette.png", encoded(with_alpha.convert("P"), "PNG")
    yield "grey-alpha.png", encoded(with_alpha.convert("LA"), "PNG")
    ramp = (np.arange(640 * 480).reshape(480, 640) % 65_536).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in ramp)
    yield "grey-16.png", png_of((640, 480, 16, 0, 0, 0, 0), rows)
    row_bytes = 640 * 6
    noise = np.random.default_rng(0).bytes(480 * row_bytes)
    rows = b"".join(b"\0" + noise[at : at + row_bytes] for at in range(0, len(noise), row_bytes))
    yield "rgb-16.png", png_of((640, 480, 16, 2, 0, 0, 0), rows)
    yield "cut.png", rgba[: len(rgba) // 2]
    middle = len(rgba) // 2
    yield "checksum.png", _patched(rgba, middle, bytes([rgba[middle] ^ 0xFF]))
    packer = zlib.compressobj(9)
    row = bytes(3 * BOMB_SIDE + 1)
    data = b"".join(packer.compress(row) for _ in range(BOMB_SIDE)) + packer.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 8, 2, 0, 0, 0))
    yield "bomb.png", PNG_MAGIC + header + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def _patched(data: bytes, at: int, what: bytes) -> bytes:
    return data[:at] + what + data[at + len(what) :]
