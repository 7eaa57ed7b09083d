"""How far a reader has come in a stream: what is a repeat, and what the server may forget.

Sequences come in rising order. The consumer may take results in another order (ordered iteration), so the
acknowledgeable point is the last sequence before the first one that the consumer is not done with.
"""

from __future__ import annotations

from collections import deque


class Progress:
    """The sequences of one reader.

    >>> progress = Progress(after=0)
    >>> [progress.received(s) for s in (1, 2, 2, 3)]
    [True, True, False, True]
    >>> progress.taken(2); progress.done_up_to
    0
    >>> progress.taken(1); progress.done_up_to
    2
    """

    def __init__(self, after: int) -> None:
        self._received = after
        self._open: deque[int] = deque()
        self._taken: set[int] = set()

    def received(self, sequence: int) -> bool:
        """Notes a delivery; False if it is a repeat."""
        if sequence <= self._received:
            return False
        self._received = sequence
        self._open.append(sequence)
        return True

    def taken(self, sequence: int) -> None:
        """The consumer is done with a result."""
        self._taken.add(sequence)
        while self._open and self._open[0] in self._taken:
            self._taken.remove(self._open.popleft())

    @property
    def done_up_to(self) -> int:
        """All results up to here are done with: what may be acknowledged, and where a resumed call begins."""
        return self._open[0] - 1 if self._open else self._received
