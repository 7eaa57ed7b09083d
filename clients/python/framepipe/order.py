"""The order in which results are handed on: as they complete, or by frame number over a bounded window."""

from __future__ import annotations

import heapq
from collections import deque

from .batches import Batches
from .records import FrameResult


class AsCompleted:
    """Hands on each result as it comes."""

    def __init__(self) -> None:
        self._held: deque[FrameResult] = deque()

    def put(self, result: FrameResult) -> None:
        """Takes a result in."""
        self._held.append(result)

    def pop(self, drained: bool) -> FrameResult | None:
        """The next result to hand on, if there is one."""
        return self._held.popleft() if self._held else None


class ByFrame:
    """Holds results back until no earlier frame can come, and never more than `window` of them.

    A client that pushes knows which frames are out: a result goes when no earlier frame of this client is.
    A client that only reads does not know which frame numbers belong to its stream: a result goes when it
    directly follows the last one, when more than `window` are held, or when the stream is drained.
    """

    def __init__(self, window: int, batches: Batches) -> None:
        self._window = window
        self._batches = batches
        self._held: list[tuple[int, int, FrameResult]] = []
        self._last: int | None = None
        self._through = -1

    def put(self, result: FrameResult) -> None:
        """Takes a result in. At a gap nobody knows which earlier frames will never come: none of them is waited for."""
        heapq.heappush(self._held, (result.frame, result.sequence, result))
        if result.gap is not None:
            self._through = max(frame for frame, _, _ in self._held)
            self._batches.await_no_earlier()

    def pop(self, drained: bool) -> FrameResult | None:
        """The next result to hand on, if it may go."""
        if not self._held:
            return None
        frame = self._held[0][0]
        if not (drained or frame <= self._through or len(self._held) > self._window or self._is_next(frame)):
            return None
        self._last = frame
        return heapq.heappop(self._held)[2]

    def _is_next(self, frame: int) -> bool:
        if self._last is not None and frame <= self._last + 1:
            return True
        return self._batches.has_pushed(frame) and not self._batches.awaits_before(frame)
