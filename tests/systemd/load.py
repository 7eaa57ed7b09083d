"""A client of its own that pushes images and reads their results until it is told to stop, and keeps a ledger.

Runs in the machine, as any user's program would: `load.py ADDRESS`. It says how many frames were
accepted, and how many results came, a line of JSON each time that one came. It stops pushing when its standard input
is closed; when each frame that was accepted has a result, or no more come, it says its ledger, and ends. Servers that
are away it waits for.
"""

import json
import struct
import sys
import threading
import time
import uuid
import zlib

import framepipe

AWAY_S = 120
"""For a server to be back."""
QUIET_S = 60
"""Without a result, after the last push: then no more is waited for."""
IN_FLIGHT = 24
BATCH = 2


def png(width: int, height: int) -> bytes:
    """Make a grey image: small, since frames are counted here and nothing is looked for in them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Ledger:
    """Frames that were accepted, and results."""

    def __init__(self) -> None:
        """Begin with none."""
        self.accepted: list[int] = []
        self.results: list[int] = []
        self.errors: list[str] = []
        self.failure = ""
        self.is_pushing = True
        self.changed = threading.Condition()

    def in_flight(self) -> int:
        """Count the frames without a result."""
        return len(self.accepted) - len(self.results)

    def is_done(self) -> bool:
        """Tell whether nothing more is to come."""
        return not self.is_pushing and self.in_flight() <= 0


def push(client: framepipe.Client, ledger: Ledger, is_over: threading.Event) -> None:
    """Push until it is over."""
    number, image = 0, png(64, 48)
    try:
        while not is_over.is_set():
            batch = client.push([image] * BATCH, names=[f"{number + more}" for more in range(BATCH)], wait=AWAY_S)
            number += BATCH
            with ledger.changed:
                ledger.accepted += range(batch.first_frame, batch.first_frame + batch.accepted)
                ledger.changed.notify_all()
                ledger.changed.wait_for(lambda: ledger.in_flight() < IN_FLIGHT or is_over.is_set(), timeout=AWAY_S)
    except Exception as error:  # whatever it is, the ledger says it
        ledger.failure = f"push: {error!r}"
    finally:
        with ledger.changed:
            ledger.is_pushing = False


def read(client: framepipe.Client, ledger: Ledger) -> None:
    """Read until nothing more is to come."""
    heard = time.monotonic()
    with ledger.changed:
        ledger.changed.wait_for(lambda: ledger.accepted or not ledger.is_pushing)
    results = client.results(timeout=0.2)
    while not ledger.is_done() and (ledger.is_pushing or time.monotonic() < heard + QUIET_S):
        try:
            result = next(results)
        except framepipe.ResultTimeout:
            continue
        heard = time.monotonic()
        with ledger.changed:
            ledger.results.append(result.frame)
            if result.error:
                ledger.errors.append(f"{result.error.code}: {result.error.message}")
            ledger.changed.notify_all()
        print(json.dumps({"accepted": len(ledger.accepted), "results": len(ledger.results)}), flush=True)
    results.close()
    if ledger.results:
        client.ack(result.sequence)


def main() -> None:
    """Push and read, and say the ledger."""
    (address,) = sys.argv[1:]
    ledger, is_over = Ledger(), threading.Event()
    with framepipe.Client(address, stream=f"load-{uuid.uuid4().hex}", reconnect_s=AWAY_S) as client:
        pusher = threading.Thread(target=push, args=(client, ledger, is_over), daemon=True)
        pusher.start()

        def listen() -> None:
            sys.stdin.read()
            is_over.set()
            with ledger.changed:
                ledger.changed.notify_all()

        threading.Thread(target=listen, daemon=True).start()
        try:
            read(client, ledger)
        except framepipe.FramepipeError as error:
            ledger.failure = ledger.failure or f"results: {error!r}"
        is_over.set()
        print(
            json.dumps(
                {
                    "accepted_frames": ledger.accepted,
                    "result_frames": ledger.results,
                    "errors": ledger.errors,
                    "failure": ledger.failure,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
