"""Tells the server in the background which results it may forget.

Acknowledgements are cumulative and best effort: one that fails is made up for by the next, and a lost one costs
the server memory and a later reader some repeats, never a result.
"""

from __future__ import annotations

import threading
from typing import Callable

EVERY_RESULTS = 64
EVERY_S = 0.5


class Acknowledger:
    """Sends the newest acknowledgeable sequence every `EVERY_RESULTS` results or `EVERY_S` seconds.

    `send` makes the call and raises nothing.
    """

    def __init__(self, send: Callable[[int], None], every_results: int = EVERY_RESULTS) -> None:
        self._send = send
        self._every_results = every_results
        self._changed = threading.Condition()
        self._wanted = 0
        self._sent = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="framepipe-acknowledge", daemon=True)
        self._thread.start()

    def up_to(self, sequence: int) -> None:
        """All results up to `sequence` may be forgotten."""
        with self._changed:
            if sequence > self._wanted:
                had_none = self._wanted <= self._sent
                self._wanted = sequence
                if had_none or self._is_due():  # else it would be woken for nothing
                    self._changed.notify()

    def close(self) -> None:
        """Sends what is left and ends."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not threading.current_thread():  # the garbage collector may run in any thread
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wanted > self._sent)
                if not self._closed:
                    self._changed.wait_for(self._is_due, timeout=EVERY_S)
                sequence, last = self._wanted, self._closed
            if sequence > self._sent:
                self._send(sequence)
                self._sent = sequence
            if last:
                return

    def _is_due(self) -> bool:
        return self._closed or self._wanted >= self._sent + self._every_results
