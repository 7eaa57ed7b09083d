"""Ways to corrupt a file: what a disk, a network or an attacker does to it. Each case has a seed of its own."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise

from bad_images import PNG_MAGIC, png_chunk

# Bytes in which the headers lie.
HEAD = 64
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)


def truncations(base: bytes) -> list[bytes]:
    """Cut a file at every percent of its length."""
    return [base[: len(base) * percent // 100] for percent in range(100)]


def corrupted(format_name: str, bases: list[bytes], seed: str) -> bytes:
    """Corrupt one of a format's files; the same way for the same seed."""
    draw = random.Random(seed)
    base = draw.choice(bases)
    if format_name == "png" and draw.random() < 0.25:
        return _png_pixels(base, draw)
    data = bytearray(base)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        draw.choice(WAYS)(data, draw, bases)
    # A checksum or a length that does not fit hides what lies behind it.
    return _mended(bytes(data)) if draw.random() < 0.5 else bytes(data)


def _place(data: bytearray, draw: random.Random) -> int:
    """Draw where: half of the time among the headers."""
    end = min(HEAD, len(data)) if draw.random() < 0.5 else len(data)
    return draw.randrange(max(1, end))


def _span(data: bytearray, draw: random.Random) -> slice:
    first = _place(data, draw)
    return slice(first, first + draw.choice((1, 2, 4, 16, 64, 256, max(1, len(data) // 4))))


def _bits(data: bytearray, draw: random.Random, _: list[bytes]) -> None:
    for _ in range(draw.randint(1, 8)):
        if data:
            data[_place(data, draw)] ^= 1 << draw.randrange(8)


def _bytes(data: bytearray, draw: random.Random, _: list[bytes]) -> None:
    for _ in range(draw.choice((1, 2, 4, 40))):
        if data:
            data[_place(data, draw)] = draw.randrange(256)


def _number(data: bytearray, draw: random.Random, _: list[bytes]) -> None:
    at, kind, order = _place(data, draw), draw.choice("BHI"), draw.choice("<>")
    size = struct.calcsize(kind)
    data[at : at + size] = struct.pack(order + kind, draw.choice(NUMBERS) & (256**size - 1))


def _cut(data: bytearray, draw: random.Random, _: list[bytes]) -> None:
    del data[_span(data, draw)]


def _insert(data: bytearray, draw: random.Random, _: list[bytes]) -> None:
    at = _place(data, draw)
    data[at:at] = draw.randbytes(draw.choice((1, 2, 7, 100)))


def _repeat(data: bytearray, draw: random.Random, _: list[bytes]) -> None:
    part = data[_span(data, draw)]
    at = _place(data, draw)
    data[at:at] = part * draw.choice((1, 1, 2, 20))


def _fill(data: bytearray, draw: random.Random, _: list[bytes]) -> None:
    span = _span(data, draw)
    data[span] = bytes([draw.choice((0, 0xFF))]) * len(data[span])


def _truncate(data: bytearray, draw: random.Random, _: list[bytes]) -> None:
    del data[draw.randrange(len(data) + 1) :]
    data += draw.choice((b"", b"\xff\xd9", png_chunk(b"IEND", b""), bytes(100)))


def _append(data: bytearray, draw: random.Random, bases: list[bytes]) -> None:
    data += draw.choice((draw.randbytes(30), bytes(1000), draw.choice(bases)))


def _swap(data: bytearray, draw: random.Random, _: list[bytes]) -> None:
    """Swap two segments or chunks."""
    edges = _edges(bytes(data))
    if len(edges) < 4:
        return
    first, second = sorted(draw.sample(range(len(edges) - 1), 2))
    a, b, c, d = edges[first], edges[first + 1], edges[second], edges[second + 1]
    data[a:d] = data[c:d] + data[b:c] + data[a:b]


def _drop_or_repeat(data: bytearray, draw: random.Random, _: list[bytes]) -> None:
    """Leave out a segment or chunk, or give it twice."""
    edges = _edges(bytes(data))
    if len(edges) < 3:
        return
    number = draw.randrange(len(edges) - 1)
    part = slice(edges[number], edges[number + 1])
    data[part] = data[part] * draw.choice((0, 2))


def _splice(data: bytearray, draw: random.Random, bases: list[bytes]) -> None:
    """Give a file another one's end."""
    other = draw.choice(bases)
    at = _place(data, draw)
    data[at:] = other[min(at, len(other)) :]


WAYS: tuple[Callable[[bytearray, random.Random, list[bytes]], None], ...] = (
    *(_bits, _bytes, _number, _cut, _insert, _repeat),
    *(_fill, _truncate, _append, _swap, _drop_or_repeat, _splice),
)


def _edges(data: bytes) -> list[int]:
    """Return where a file's segments or chunks begin, and the end of the last one that is whole."""
    if data.startswith(b"\xff\xd8"):
        at, step = 2, lambda at: 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    elif data.startswith(PNG_MAGIC):
        at, step = 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big")
    elif data.startswith(b"RIFF"):
        at, step = 12, lambda at: (9 + int.from_bytes(data[at + 4 : at + 8], "little")) & ~1
    else:
        return []
    edges = []
    while at <= len(data):
        edges.append(at)
        at += step(at)
    return edges


def _mended(data: bytes) -> bytes:
    """Make a PNG's checksums, a WebP's length and a BMP's size those of the bytes."""
    if data.startswith(PNG_MAGIC):
        edges = _edges(data)
        whole = [png_chunk(data[at + 4 : at + 8], data[at + 8 : end - 4]) for at, end in pairwise(edges)]
        return PNG_MAGIC + b"".join(whole) + data[edges[-1] :]
    if data.startswith(b"RIFF") and len(data) >= 20:
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
        if data[12:16] in (b"VP8 ", b"VP8L"):
            data = data[:16] + struct.pack("<I", len(data) - 20) + data[20:]
    elif data.startswith(b"BM") and len(data) >= 6:
        data = data[:2] + struct.pack("<I", len(data)) + data[6:]
    return data


def _png_pixels(base: bytes, draw: random.Random) -> bytes:
    """Corrupt a PNG's filters and pixels, and pack them again as if nothing had happened."""
    edges = _edges(base)
    chunks = [(base[at + 4 : at + 8], base[at + 8 : end - 4]) for at, end in pairwise(edges)]
    rows = bytearray(zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT")))
    for _ in range(draw.choice((1, 5, 200))):
        # The first byte of a row is its filter.
        rows[draw.randrange(len(rows))] = draw.choice((0, 1, 2, 3, 4, draw.randrange(256)))
    rows += draw.choice((b"", b"", draw.randbytes(9)))
    del rows[len(rows) - draw.choice((0, 0, 0, 1, 50)) :]
    before = b"".join(png_chunk(kind, data) for kind, data in chunks if kind not in (b"IDAT", b"IEND"))
    packed = zlib.compress(bytes(rows), draw.choice((0, 1, 9)))
    return PNG_MAGIC + before + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
