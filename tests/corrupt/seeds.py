"""Writes what the fuzzer begins with: seeds.py FOLDER makes one folder a target of fuzz/ in it."""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from bad_images import bad_images
from bases import bases
from decoder import ROOT

BYTES_MAX = 60_000


def seeds() -> Iterator[tuple[str, bytes]]:
    """Give targets and bytes."""
    photo = (ROOT / "photos" / "sample6.jpg").read_bytes()
    for name, files in bases(photo).items():
        yield from ((name.split("-")[0], file) for file in files)
    for name, data in bad_images(photo):
        yield name.rsplit(".", 1)[1].replace("jpg", "jpeg"), data
    for path in sorted((ROOT / "config" / "models").glob("*.toml")):
        text = path.read_text()
        yield "manifest", text.encode()
        table = text.split("[input]\n", 1)[1].split("\n[", 1)[0]
        yield "graph", table.encode()
    for number, (width, height, stride) in enumerate(((4, 4, 12), (5, 3, 16), (8, 2, 8), (6, 4, 6), (5, 5, 6)), 1):
        yield "raw_frame", struct.pack("<IIII", number, width, height, stride) + bytes(range(80))
    yield "records", struct.pack("<Q", 2) + struct.pack("<Ifffff", 1, 0.5, 1, 2, 3, 4) * 2
    yield "records", struct.pack("<IIIII", 3, 1, 0, 2, 2) + struct.pack("<ff", 1, 2)
    yield "records", struct.pack("<II", 1, 0) + struct.pack("<IIIIIIII", 2, 2, 3, 0, 0, 0, 0, 0) + bytes(24)
    yield "records", bytes(1600)
    for count in (0, 1, 3):
        yield "journal", b"\x03" + _position(1) + _journal(count)
    yield "segment", b""
    yield "segment", bytes(400)
    yield "segment", b"\x40\0\x01\x10\0\x01"


def _position(sequence: int) -> bytes:
    number = struct.pack("<Q", sequence)
    return number + struct.pack("<II", zlib.crc32(number), 0) + bytes(16)


def _journal(count: int) -> bytes:
    """Return a segment with so many records; the target mends their checksums."""
    segment = b"fpjournl" + struct.pack("<IIQI", 1, 77, 1, 0)
    for number in range(count):
        payload = bytes(range(5 * number))
        segment += struct.pack("<IIQQQ", len(payload), 0, number + 1, 1, number) + payload
    return segment


def main() -> None:
    """Write them."""
    for target, data in seeds():
        if len(data) <= BYTES_MAX:
            folder = Path(sys.argv[1], target)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    main()
