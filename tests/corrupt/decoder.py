"""framepipe's decoder in a process of its own: examples/decode_pipe.rs of the crate vision."""

from __future__ import annotations

import os
import selectors
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(os.environ.get("FRAMEPIPE_BINARIES", ROOT / "target" / "verify")) / "examples" / "decode_pipe"
ANSWER = struct.Struct("<IIIQQI")
# A wait this long is a hang: the limit of CPU time is 2 s.
ANSWER_S_MAX = 60
# As in crates/frame/src/error.rs.
CODES = {3: "UNSUPPORTED_FORMAT", 4: "CORRUPT_IMAGE", 5: "IMAGE_TOO_LARGE"}
# Decoder's state, allocator's rounding.
BYTES_BESIDE = 4 << 20
METADATA_BYTES = (4 << 20) + 4 * 8 * 30_000
# The pixels, once more before they are turned, and 16-bit RGBA (crates/vision/src/limits.rs).
BYTES_A_PIXEL = 3 + 3 + 8
# The limit of 2 s, and what is done between two looks at the clock.
CPU_S_MAX = 2.5


class DecoderFailedError(Exception):
    """A crash, a hang, or a limit that was not held."""


@dataclass
class Answer:
    """What framepipe made of an image: pixels, or an error's code and message."""

    pixels: np.ndarray | None
    code: str
    message: str
    cpu_s: float


class Decoder:
    """The process; it is started again after it failed."""

    def __init__(self) -> None:
        """Start it."""
        self.child = subprocess.Popen([CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.wait = selectors.DefaultSelector()
        self.wait.register(self.child.stdout, selectors.EVENT_READ)

    def close(self) -> None:
        """End it."""
        self.wait.close()
        self.child.kill()
        self.child.communicate()

    def decode(self, data: bytes) -> Answer:
        """Decode, and hold memory, time and the kind of error to what framepipe promises."""
        try:
            self._send(struct.pack("<I", len(data)) + data)
            until = time.monotonic() + ANSWER_S_MAX
            code, width, height, memory_bytes, cpu_us, length = ANSWER.unpack(self._receive(ANSWER.size, until))
            body = self._receive(length, until)
        except OSError as error:
            self.child.kill()
            status = self.child.wait()
            self.close()
            self.__init__()
            raise DecoderFailedError(f"{error}; exit status {status}") from error
        pixels_bytes = BYTES_A_PIXEL * width * height
        allowed = BYTES_BESIDE + (pixels_bytes + METADATA_BYTES if width else 0)
        if memory_bytes > allowed:
            raise DecoderFailedError(f"{memory_bytes} bytes of memory for {width}x{height} pixels; {allowed} at most")
        if cpu_us > CPU_S_MAX * 1e6:
            raise DecoderFailedError(f"{cpu_us / 1e6} s of CPU time for {width}x{height} pixels")
        if code == 0:
            return Answer(np.frombuffer(body, np.uint8).reshape(height, width, 3), "", "", cpu_us / 1e6)
        if code not in CODES:
            raise DecoderFailedError(f"error {code}, which no bytes should give: {body.decode()}")
        return Answer(None, CODES[code], body.decode(), cpu_us / 1e6)

    def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self.child.stdin.write(left) :]

    def _receive(self, length: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < length:
            if not self.wait.select(max(0, until - time.monotonic())):
                raise OSError(f"no answer in {ANSWER_S_MAX} s")
            part = self.child.stdout.read(length - len(data))
            if not part:
                raise OSError("the process ended")
            data += part
        return bytes(data)
