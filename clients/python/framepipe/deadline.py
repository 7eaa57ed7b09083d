"""A time limit on each result of a gRPC stream, which by itself has only one for the whole call."""

from __future__ import annotations

import threading
import time

import grpc

_REPEAT_S = 0.01


class Deadline:
    """Cancels `call` when a wait takes longer than `timeout_s`; with None it never does."""

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self.call: grpc.Call | None = None
        self._at: float | None = None
        self._closed = threading.Event()
        if timeout_s is not None:
            threading.Thread(target=self._watch, args=(timeout_s,), name="framepipe-timeout", daemon=True).start()

    def start(self) -> None:
        """A wait begins."""
        if self.timeout_s is not None:
            self._at = time.monotonic() + self.timeout_s

    def stop(self) -> None:
        """The wait is over."""
        self._at = None

    def passed(self) -> bool:
        """Whether the wait took too long."""
        at = self._at
        return at is not None and time.monotonic() >= at

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()

    def _watch(self, timeout_s: float) -> None:
        # A wait that begins during a pause ends no earlier than `timeout_s` from now: no pause is too long.
        pause_s = timeout_s
        while not self._closed.wait(pause_s):
            at = self._at
            if at is None:
                pause_s = timeout_s
            elif self.passed():
                # The call may be opened only now: again until the reader has noticed.
                if self.call is not None:
                    self.call.cancel()
                pause_s = _REPEAT_S
            else:
                pause_s = min(timeout_s, max(at - time.monotonic(), 0.0))
