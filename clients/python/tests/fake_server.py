"""A framepipe server in the test's own process: the contract of the calls, and faults on demand.

It keeps a journal as the real one does. Nothing in it sleeps: who waits, waits for a condition with a deadline.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from concurrent import futures
from dataclasses import dataclass

import grpc

from framepipe._generated import framepipe_pb2 as pb
from framepipe._generated.framepipe_pb2_grpc import FramepipeServicer, add_FramepipeServicer_to_server

PATIENCE_S = 20
RESULTS_MAX = 3
"""Results of one message."""


@dataclass
class PullFault:
    """What happens to one PullResult call: it ends after `after` results, with `code` or as if it were complete."""

    after: int
    code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE


class FakeServer(FramepipeServicer):
    """`complete=False`: frames have no result until the test calls `complete`."""

    def __init__(self, complete: bool = True) -> None:
        self.changed = threading.Condition()
        self.complete_at_once = complete
        self.journal: list[pb.FrameResult] = []
        self.frames: dict[int, pb.FrameResult] = {}
        self.answers: dict[str, pb.PushDataResponse] = {}
        self.pushes: list[pb.PushDataRequest] = []
        # The images of each upload, which is a push as well, and the bytes of its largest message.
        self.uploads: list[tuple[list[bytes], int]] = []
        self.pulls: list[pb.PullResultRequest] = []
        self.acks: list[int] = []
        self.acknowledged = 0
        self.next_frame = 100
        self.serving = True
        # Whether frames accepted from now on are said to have a result that was kept.
        self.cached = False
        self.repeat = 0
        self.push_faults: deque[grpc.StatusCode] = deque()
        self.lose_push_answers = 0
        self.pull_faults: deque[PullFault] = deque()
        self._reader = 0
        self._server: grpc.Server | None = None

    # The test's side.

    def start(self, address: str) -> None:
        """Serves at "unix:PATH"."""
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        add_FramepipeServicer_to_server(self, self._server)
        health = grpc.unary_unary_rpc_method_handler(self._health)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health}),)
        )
        self._server.add_insecure_port(address)
        self._server.start()

    def stop(self) -> None:
        """Cuts all connections; the journal stays, as it would in a crash."""
        if self._server:
            self._server.stop(None)
            with self.changed:
                self._reader += 1
                self.changed.notify_all()
            assert self._server.wait_for_termination(PATIENCE_S) is False

    def complete(self, *frames: int) -> None:
        """Gives frames their results, in this order."""
        with self.changed:
            for frame in frames:
                result = self.frames.pop(frame)
                result.sequence = len(self.journal) + 1
                self.journal.append(result)
            self.changed.notify_all()

    def wait_for(self, condition) -> None:
        """Waits until the condition holds."""
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE_S)

    # The calls.

    def PushData(self, request, context):
        with self.changed:
            self.pushes.append(request)
            self.changed.notify_all()
            if self.push_faults:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", "40"),))
                context.abort(self.push_faults.popleft(), "the frame table is full (4096 frames)")
            if request.idempotency_key not in self.answers:
                self.answers[request.idempotency_key] = self._accept(request)
            if self.lose_push_answers:
                self.lose_push_answers -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
            return self.answers[request.idempotency_key]

    def Upload(self, messages, context):
        push = next(messages).push
        if not self.push_faults:
            pieces = [message.data for message in messages]
            rest = memoryview(b"".join(pieces))
            assert len(rest) == sum(push.sizes)
            images = []
            for size in push.sizes:
                images.append(bytes(rest[:size]))
                rest = rest[size:]
            self.uploads.append((images, max(map(len, pieces), default=0)))
        return self.PushData(push, context)

    def PullResult(self, request, context):
        context.add_callback(self._notify)
        with self.changed:
            self.pulls.append(request)
            self.acknowledged = max(self.acknowledged, request.after_sequence)
            self._reader += 1
            reader = self._reader
            fault = self.pull_faults.popleft() if self.pull_faults else None
            at = max(self.acknowledged - (self.repeat if request.after_sequence else 0), 0)
            self.changed.notify_all()
        sent = 0
        while True:
            with self.changed:
                if fault and sent == fault.after:
                    if fault.code:
                        context.abort(fault.code, "broken on purpose")
                    return
                drained = not self.frames and at == len(self.journal)
                if request.until_drained and drained:
                    return
                if at == len(self.journal):
                    self.changed.wait_for(
                        lambda at=at: reader != self._reader or at < len(self.journal) or not context.is_active(),
                        PATIENCE_S,
                    )
                if reader != self._reader:
                    context.abort(grpc.StatusCode.ABORTED, "another reader took over")
                if not context.is_active() or at == len(self.journal):
                    return
                left = min(RESULTS_MAX, fault.after - sent) if fault else RESULTS_MAX
                results = self.journal[at : at + left]
            yield pb.FrameResults(results=results)
            at += len(results)
            sent += len(results)

    def AckResults(self, request, context):
        with self.changed:
            self.acks.append(request.sequence)
            self.acknowledged = max(self.acknowledged, request.sequence)
            self.changed.notify_all()
            return pb.AckResultsResponse(kept=len(self.journal) - self.acknowledged)

    def _accept(self, request):
        stream = request.stream or "made-by-server"
        count = len(request.sizes) or len(request.files)
        first = self.next_frame
        self.next_frame += count
        for index in range(count):
            name = request.names[index] if request.names else str(index)
            found = pb.Detections(image_width=4, image_height=3)
            frame = pb.FrameResult(
                name=name, frame=first + index, batch_index=index, detections=found, cached=self.cached
            )
            self.frames[first + index] = frame
        if self.complete_at_once:
            self.complete(*range(first, first + count))
        return pb.PushDataResponse(stream=stream, first_frame=first, accepted=count)

    def _health(self, request, context):
        if request != b"\x0a\x16framepipe.v1.Framepipe":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return b"\x08\x01" if self.serving else b"\x08\x02"

    def _notify(self):
        with self.changed:
            self.changed.notify_all()


if __name__ == "__main__":
    FakeServer().start(sys.argv[1])
    print("serving", flush=True)
    threading.Event().wait()
