"""The results of each stream, until its reader acknowledges them."""

import threading
from collections import deque
from collections.abc import Iterator

from framepipe._generated import framepipe_pb2 as pb


class ReplacedError(Exception):
    """Another reader took over."""


class Stream:
    """One stream. All methods may be called from any thread."""

    def __init__(self) -> None:
        """Begin empty."""
        self._changed = threading.Condition()
        self._kept: deque[pb.FrameResult] = deque()
        self._sequence = 0
        self._in_flight = 0
        self._reader = 0

    def accepted(self, count: int) -> None:
        """So many frames more will have results."""
        with self._changed:
            self._in_flight += count

    def put(self, results: list[pb.FrameResult]) -> None:
        """Take results in."""
        with self._changed:
            for result in results:
                self._sequence += 1
                result.sequence = self._sequence
                self._kept.append(result)
            self._in_flight -= len(results)
            self._changed.notify_all()

    def acknowledge(self, sequence: int) -> int:
        """Forget results up to a sequence; return how many are kept."""
        with self._changed:
            while self._kept and self._kept[0].sequence <= sequence:
                self._kept.popleft()
            return len(self._kept)

    def wake(self) -> None:
        """Let readers see that their call has ended."""
        with self._changed:
            self._changed.notify_all()

    def read(self, after: int, until_drained: bool, is_active) -> Iterator[pb.FrameResults]:
        """Yield results behind a sequence as they come, all that are there at a time. A new reader ends the former."""
        with self._changed:
            self._reader += 1
            reader = self._reader
            self._changed.notify_all()
        sent = after
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda sent=sent: reader != self._reader
                    or not is_active()
                    or self._sequence > sent
                    or (until_drained and not self._in_flight)
                )
                if reader != self._reader:
                    raise ReplacedError
                if not is_active() or self._sequence <= sent:
                    return
                ready = [result for result in self._kept if result.sequence > sent]
            if ready:
                yield pb.FrameResults(results=ready)
            sent = max(sent, self._sequence if not ready else ready[-1].sequence)
