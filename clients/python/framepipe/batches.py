"""Which frames this client pushed and has no result of yet, and when their file may go.

A blob is deleted when the last result of its batch has been received: the server reads a frame's bytes before it
answers. The blobs of unread frames stay, also when the client is closed or dies: the server reads them later.

Pushes and results may run in different threads, so a result can come before its push has returned.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from .inbox import Blob

# Seconds; for the server's answer to a call whose frames' results are here already.
ANSWER_WAIT = 0.2


@dataclass(frozen=True)
class Batch:
    """An accepted push: its frames are numbered first_frame, first_frame + 1, … in the order of the images.

    `blob` is the path of the file that holds them, None where the server reads the caller's own files.
    """

    stream: str
    first_frame: int
    accepted: int
    names: list[str]
    blob: str | None


@dataclass
class _Out:
    """A batch with frames whose results are still out."""

    blob: Blob | None
    age: int
    frames: set[int] = field(default_factory=set)


class _Pushing:
    """A call of PushData that is under way, in a `with`; no `contextlib`, which showed in profiles of single pushes."""

    __slots__ = ("_batches",)

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __enter__(self) -> None:
        batches = self._batches
        with batches._changed:
            batches._under_way[self] = batches._newest

    def __exit__(self, *_: object) -> None:
        batches = self._batches
        with batches._changed:
            del batches._under_way[self]
            # A call that began when frame n was known to be accepted brings frames behind n alone.
            least = min(batches._under_way.values(), default=None)
            batches._early = set() if least is None else {frame for frame in batches._early if frame > least}
            batches._changed.notify_all()


class Batches:
    """The frames of this client that are out. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._out: dict[int, _Out] = {}
        self._by_age: list[int] = []
        self._newest = -1
        self._under_way: dict[object, int] = {}
        self._early: set[int] = set()
        self._unconfirmed: dict[str, Blob] = {}
        self._age = 0

    def pushing(self) -> _Pushing:
        """Around a call of PushData: results of its frames may come before it returns."""
        return _Pushing(self)

    def accepted(self, first_frame: int, count: int, blob: Blob | None) -> None:
        """The server accepted frames first_frame … first_frame + count - 1; `blob` holds them."""
        with self._changed:
            self._age += 1
            self._newest = max(self._newest, first_frame + count - 1)
            self._changed.notify_all()
            out = _Out(blob, self._age, set(range(first_frame, first_frame + count)) - self._early)
            for frame in out.frames:
                self._out[frame] = out
                heapq.heappush(self._by_age, frame)
            if not out.frames:
                self._forget(out)

    def received(self, frames: Iterable[int]) -> None:
        """The results of frames are here; the last one of a batch deletes the blob. Repeats change nothing."""
        with self._changed:
            for frame in frames:
                out = self._out.pop(frame, None)
                if out is None:
                    if self._under_way:
                        self._early.add(frame)
                    continue
                out.frames.discard(frame)
                if not out.frames:
                    self._forget(out)

    def awaits_before(self, frame: int) -> bool:
        """Whether the result of an earlier frame of this client is still out."""
        with self._changed:
            while self._by_age and self._by_age[0] not in self._out:
                heapq.heappop(self._by_age)
            return bool(self._by_age) and self._by_age[0] < frame

    def await_no_earlier(self) -> None:
        """Some results will never come, nobody knows which: of the frames out now none counts in `awaits_before`."""
        with self._changed:
            self._by_age.clear()

    def has_pushed(self, frame: int) -> bool:
        """Whether this client has pushed anything.

        A result that comes before the calls under way have told their frames' numbers waits for them a moment: the
        server answers a call when it has accepted the frames, so its answer is on the way, or it brings later frames.
        Calls wait for room much longer, and for the room that reading makes: so it waits no longer than ANSWER_WAIT.
        """
        with self._changed:
            calls = set(self._under_way)
            self._changed.wait_for(
                lambda: frame <= self._newest or calls.isdisjoint(self._under_way), ANSWER_WAIT
            )
            return self._age > 0

    def now(self) -> int:
        """The moment for `drained`: batches accepted up to here."""
        with self._changed:
            return self._age

    def drained(self, until: int) -> None:
        """No result of the batches accepted up to `until` can come any more: forgets them and their blobs."""
        with self._changed:
            for out in list(self._out.values()):
                if out.age <= until:
                    self._forget(out)

    def release(self, batch: Batch) -> None:
        """Forgets a batch whose results another reader has received, and deletes its blob."""
        with self._changed:
            for frame in range(batch.first_frame, batch.first_frame + batch.accepted):
                if frame in self._out:
                    self._forget(self._out[frame])

    def _forget(self, out: _Out) -> None:
        """Takes a batch off the books. Several frames may lead here: the second time changes nothing."""
        while out.frames:
            del self._out[out.frames.pop()]
        if out.blob:
            out.blob.delete()

    def keep_unconfirmed(self, key: str, blob: Blob) -> None:
        """A push failed in a way that leaves open whether it was accepted: its blob waits for the retry."""
        with self._changed:
            self._unconfirmed[key] = blob

    def take_unconfirmed(self, key: str) -> Blob | None:
        """The blob of an earlier push with this key, to be pushed again."""
        with self._changed:
            return self._unconfirmed.pop(key, None)
