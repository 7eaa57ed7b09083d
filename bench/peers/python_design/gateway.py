"""The gRPC server: takes pushes, gives frames slots and numbers, hands results to their streams."""

import os
import signal
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import grpc
from framepipe._generated import framepipe_pb2 as pb
from framepipe._generated.framepipe_pb2_grpc import FramepipeServicer, add_FramepipeServicer_to_server
from peers.python_design.encode import frame_result
from peers.python_design.frame import Frame, Ready, Result, Source
from peers.python_design.streams import ReplacedError, Stream

THREADS_MAX = 32
LOST_S = 60.0
"""Unless told otherwise, a frame that has no result after so long was lost with a process: its result is an error."""
_SWEEP_S = 1.0


@dataclass(frozen=True)
class Served:
    """What the gateway is told: at most `group_max` frames travel together; `processes` must be ready first.

    A frame that has no result after `lost_s` was lost with a process: its result is an error, its slot free again.
    """

    address: str
    inbox: Path
    labels: list[str]
    slots: int
    group_max: int
    processes: int
    lost_s: float


@dataclass(slots=True)
class Pending:
    """What the gateway remembers of a frame in flight."""

    stream: Stream
    name: str
    batch_index: int
    slot: int
    since: float


class Gateway(FramepipeServicer):
    """The service."""

    def __init__(self, ingest: SimpleQueue, served: Served) -> None:
        """Begin with all slots free, and no process ready."""
        slots = served.slots
        self._ingest = ingest
        self._labels = served.labels
        self._inbox = f"{os.path.realpath(served.inbox)}/"
        self._group_max = served.group_max
        self._missing = served.processes
        self._lost_s = served.lost_s
        self._room = threading.Condition()
        # The slot that was freed last is used next: its pages are there, and perhaps in a cache.
        self._free = list(range(slots))
        self._slots = slots
        self._next = 1
        self._pending: dict[int, Pending] = {}
        self._streams: dict[str, Stream] = defaultdict(Stream)

    # The calls. Their names are the service's.

    def PushData(self, request: pb.PushDataRequest, context: grpc.ServicerContext) -> pb.PushDataResponse:  # noqa: N802
        """Accept a batch, whole or not at all."""
        sources = self._sources(request, context)
        name = request.stream or "default"
        stream = self._streams[name]
        with self._room:
            if not self._room.wait_for(lambda: len(self._free) >= len(sources), request.wait_ms / 1000):
                context.set_trailing_metadata((("grpc-retry-pushback-ms", "20"),))
                context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{len(self._free)} of {self._slots} slots are free, the batch has {len(sources)} frames",
                )
            first = self._next
            self._next += len(sources)
            frames, now = [], time.monotonic()
            for index, source in enumerate(sources):
                slot = self._free.pop()
                given = request.names[index] if request.names else f"{os.path.basename(source.path)}#{index}"
                self._pending[first + index] = Pending(stream, given, index, slot, now)
                frames.append(Frame(first + index, slot, source))
        stream.accepted(len(frames))
        for start in range(0, len(frames), self._group_max):
            self._ingest.put(frames[start : start + self._group_max])
        return pb.PushDataResponse(stream=name, first_frame=first, accepted=len(frames))

    def PullResult(self, request: pb.PullResultRequest, context: grpc.ServicerContext):  # noqa: N802
        """Stream a stream's results."""
        stream = self._streams[request.stream]
        stream.acknowledge(request.after_sequence)
        context.add_callback(stream.wake)
        try:
            yield from stream.read(request.after_sequence, request.until_drained, context.is_active)
        except ReplacedError:
            context.abort(grpc.StatusCode.ABORTED, "another reader of this stream took over")

    def AckResults(self, request: pb.AckResultsRequest, context: grpc.ServicerContext):  # noqa: N802
        """Forget results."""
        return pb.AckResultsResponse(kept=self._streams[request.stream].acknowledge(request.sequence))

    def check_health(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer grpc.health.v1: SERVING once every process was ready."""
        return b"\x08\x02" if self._missing > 0 else b"\x08\x01"

    # What the stages send.

    def finish(self, results: SimpleQueue) -> None:
        """Take results from the last queue, for ever."""
        while True:
            message = results.get()
            if isinstance(message, Ready):
                self._missing -= 1
            else:
                self._deliver(message)

    def sweep(self, ended: threading.Event) -> None:
        """Give up frames that were lost, until the end."""
        while not ended.wait(_SWEEP_S):
            limit = time.monotonic() - self._lost_s
            with self._room:
                lost = [(number, frame) for number, frame in self._pending.items() if frame.since < limit]
            why = f"no result after {self._lost_s:g} s: its process may have died"
            self._deliver([Result(number, frame.slot, (0, 0), [], [], why) for number, frame in lost])

    def _deliver(self, results: list[Result]) -> None:
        by_stream: dict[Stream, list[pb.FrameResult]] = defaultdict(list)
        with self._room:
            known = [(self._pending.pop(result.number, None), result) for result in results]
            self._free += [result.slot for pending, result in known if pending]
            self._room.notify_all()
        for pending, result in known:
            if pending:
                by_stream[pending.stream].append(frame_result(result, pending.name, pending.batch_index, self._labels))
        for stream, messages in by_stream.items():
            stream.put(messages)

    def _sources(self, request: pb.PushDataRequest, context: grpc.ServicerContext) -> list[Source]:
        raw = None
        if request.HasField("raw"):
            if request.raw.format not in (pb.PIXEL_FORMAT_RGB24, pb.PIXEL_FORMAT_BGR24) or request.raw.stride:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "raw frames are RGB24 or BGR24, without a stride")
            raw = (request.raw.width, request.raw.height, request.raw.format == pb.PIXEL_FORMAT_RGB24)
        try:
            if request.location:
                path, offset, sources = self._allowed(request.location), 0, []
                for size in request.sizes:
                    sources.append(Source(path, offset, size, raw))
                    offset += size
            else:
                paths = [self._allowed(path) for path in request.files]
                sources = [Source(path, 0, os.stat(path).st_size, raw) for path in paths]
        except FileNotFoundError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except PermissionError as error:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        if not sources or len(sources) > self._slots or len(request.names) not in (0, len(sources)):
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{len(sources)} images, {len(request.names)} names: give 1 to {self._slots} images, and as many names",
            )
        if raw and any(source.size != 3 * raw[0] * raw[1] for source in sources):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"a frame of {raw[0]}x{raw[1]} has another size")
        return sources

    def _allowed(self, path: str) -> str:
        real = os.path.realpath(path)
        if not real.startswith(self._inbox):
            raise PermissionError(f"{path} is not in {self._inbox}")
        return real


def serve(served: Served, ingest: SimpleQueue, results: SimpleQueue) -> None:
    """Be the gateway's process until it is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    gateway = Gateway(ingest, served)
    server = grpc.server(ThreadPoolExecutor(THREADS_MAX), options=[("grpc.so_reuseport", 0)])
    add_FramepipeServicer_to_server(gateway, server)
    health = grpc.unary_unary_rpc_method_handler(gateway.check_health)
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health}),
    ))
    server.add_insecure_port(served.address)
    server.start()
    threading.Thread(target=gateway.finish, args=(results,), daemon=True).start()
    threading.Thread(target=gateway.sweep, args=(ended,), daemon=True).start()
    ended.wait()
    server.stop(None)
    # The thread that waits for results holds a queue's lock: nothing of it is needed any more.
    os._exit(0)
