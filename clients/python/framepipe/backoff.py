"""Waiting between attempts: short at first, doubling, never past a deadline."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import Callable

log = logging.getLogger("framepipe")

FIRST_S = 0.02
LONGEST_S = 0.5


class Backoff:
    """The pauses of one series of attempts, which ends `total_s` after its first failure.

    `reconnect` is called with the seconds of each pause and may use them to make a connection.

    >>> backoff = Backoff(0, threading.Event())
    >>> backoff.pause()
    False
    """

    def __init__(
        self,
        total_s: float,
        closed: threading.Event,
        reconnect: Callable[[float], None] | None = None,
    ) -> None:
        self._total_s = total_s
        self._closed = closed
        self._reconnect = reconnect
        self._end: float | None = None
        self._next_s = FIRST_S
        self._failures = 0

    def over(self) -> None:
        """An attempt succeeded: the next failure begins a new series."""
        self._end = None
        self._next_s = FIRST_S
        self._failures = 0

    def pause(self, why: str | None = None) -> bool:
        """Waits before the next attempt. False: there is no time for one, or the client was closed.

        `why` the last one failed is told once, as a warning, where the next one failed too.
        """
        now = time.monotonic()
        if self._end is None:
            self._end = now + self._total_s
        if now >= self._end:
            return False
        self._failures += 1
        if why is not None:
            level = logging.WARNING if self._failures == 2 else logging.DEBUG
            log.log(level, "%s; it is tried for %g s more", why, self._end - now)
        pause_s = min(self._next_s * random.uniform(0.5, 1.0), self._end - now)
        self._next_s = min(2 * self._next_s, LONGEST_S)
        if self._reconnect is not None and not self._closed.is_set():
            self._reconnect(pause_s)
        return not self._closed.wait(max(now + pause_s - time.monotonic(), 0.0))
