"""Reads the results of a stream, across broken connections, and acknowledges what the consumer is done with.

Promises: every result is handed on once by one `Results`, whatever breaks. A result counts as done with when the
consumer asks for the next one, and only then is it acknowledged: what a consumer had in hand when it died comes
again to the next reader.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

import grpc

from ._generated import framepipe_pb2 as pb
from ._generated.framepipe_pb2_grpc import FramepipeStub
from .acknowledge import Acknowledger
from .backoff import Backoff
from .batches import Batches
from .deadline import Deadline
from .errors import ResultTimeout, Unavailable, from_rpc, is_broken_connection
from .order import AsCompleted, ByFrame
from .peer import is_another, why
from .progress import Progress
from .records import FrameResult, frame_result

log = logging.getLogger("framepipe")

ESTABLISHED_S = 30.0
"""A call that lasted this long had a connection, though it brought no result: its end begins a new outage."""

ACK_TIMEOUT_S = 5.0


class Results(Iterator[FrameResult]):
    """The results of one stream; `Client.results` makes it. Closing it, or dropping it, ends the call."""

    def __init__(
        self,
        stub: FramepipeStub,
        address: str,
        stream: str,
        batches: Batches,
        backoff: Backoff,
        *,
        after: int,
        until_drained: bool,
        timeout: float | None,
        order: AsCompleted | ByFrame,
        ack_every: int,
    ) -> None:
        self._stub = stub
        self._address = address
        self._stream = stream
        self._batches = batches
        self._backoff = backoff
        self._until_drained = until_drained
        self._order = order
        self._progress = Progress(after)
        self._in_hand: int | None = None
        self._deadline = Deadline(timeout)
        self._drained = False
        self._closed = False
        self._opened_at = 0.0
        self._pushed_before = 0

        def send(sequence: int) -> None:
            try:
                request = pb.AckResultsRequest(stream=stream, sequence=sequence)
                stub.AckResults(request, timeout=ACK_TIMEOUT_S)
            except (grpc.RpcError, ValueError) as error:  # ValueError: the channel is closed
                log.debug("acknowledging %s up to %d: %s", stream, sequence, error)

        self._acknowledger = Acknowledger(send, ack_every)

    def __next__(self) -> FrameResult:
        if self._closed:
            raise StopIteration
        if self._in_hand is not None:
            self._progress.taken(self._in_hand)
            self._in_hand = None
            self._acknowledger.up_to(self._progress.done_up_to)
        self._deadline.start()
        try:
            result = self._next()
        except ResultTimeout:
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._deadline.stop()
        if result is None:
            self.close()
            raise StopIteration
        self._in_hand = result.sequence
        return result

    def _next(self) -> FrameResult | None:
        """The next result; None at the end."""
        while not self._closed:
            result = self._order.pop(self._drained)
            if result is not None or self._drained:
                return result
            self._receive()
        return None

    def _receive(self) -> None:
        """Takes in a message of results, or the end of the stream, or reconnects."""
        try:
            message = next(self._deadline.call or self._open())
        except StopIteration:
            self._deadline.call = None
            if self._until_drained:
                self._drained = True
                self._batches.drained(self._pushed_before)
            else:
                self._resume("the server ended the stream")
        except grpc.RpcError as error:
            self._deadline.call = None
            if self._deadline.passed():
                raise ResultTimeout(f"no result within {self._deadline.timeout_s:g} s") from None
            if not self._closed:
                if not is_broken_connection(error):
                    raise from_rpc(error) from error
                self._resume(why(self._address, error), is_in_vain=is_another(error))
        else:
            self._take_in(message.results)

    def _take_in(self, messages: Iterable[pb.FrameResult]) -> None:
        results = [frame_result(one) for one in messages if self._progress.received(one.sequence)]
        if results:
            self._backoff.over()
            self._batches.received(one.frame for one in results if one.gap is None)
            for one in results:
                self._order.put(one)

    def _open(self) -> grpc.Call:
        self._pushed_before = self._batches.now()
        self._opened_at = time.monotonic()
        request = pb.PullResultRequest(
            stream=self._stream,
            after_sequence=self._progress.done_up_to,
            until_drained=self._until_drained,
        )
        self._deadline.call = call = self._stub.PullResult(request)
        if self._closed:  # by another thread, just now
            call.cancel()
        return call

    def _resume(self, seen: str, is_in_vain: bool = False) -> None:
        """Waits before the next attempt, which repeats nothing that the consumer has seen."""
        if time.monotonic() - self._opened_at >= ESTABLISHED_S:
            self._backoff.over()
        broken = f"the results of {self._stream} broke off"
        if (is_in_vain or not self._backoff.pause(f"{broken}: {seen}")) and not self._closed:
            raise Unavailable(f"{broken} and could not be resumed: {seen}")

    def close(self) -> None:
        """Ends the call and acknowledges what the consumer is done with. The result in hand is not among it."""
        if self._closed:
            return
        self._closed = True
        self._deadline.close()
        if self._deadline.call is not None:
            self._deadline.call.cancel()
        self._acknowledger.close()

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # While the interpreter ends, its threads stand still and must not be waited for.
        if hasattr(self, "_acknowledger") and not sys.is_finalizing():
            self.close()
