"""The client: one server, one stream."""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Callable

import grpc

from ._generated import framepipe_pb2 as pb
from ._generated.framepipe_pb2_grpc import FramepipeStub
from .backoff import Backoff
from .batches import Batch, Batches
from .errors import InvalidRequest, Overloaded, PermissionDenied, Unavailable, from_rpc, is_broken_connection
from .health import Health
from .images import Image, check_count, hold_of, read
from .inbox import WHICH, Blob, Inbox, new_key
from .order import AsCompleted, ByFrame
from .peer import check_address, is_another, why
from .reader import Results
from .upload import Metadata, Upload

CALL_TIMEOUT_S = 30.0
# Below it the server gives an upload up.
UPLOAD_BYTES_PER_S_LEAST = 64 << 10
# Longest wait for room in one call: well within its timeout.
ROOM_WAIT_S = 20.0
# The largest result that a server can be configured for, 64 MiB, and what a message adds to it.
MESSAGE_BYTES_MAX = 65 << 20
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
]
# Over a Unix socket the library would send the escaped path, which HTTP/2 servers may refuse as malformed.
_UNIX_OPTIONS = [("grpc.default_authority", "localhost")]


class Client:
    """A connection to framepipe at `address`, "host:port" or "unix:/path", for the frames of one stream.

    `stream` is [A-Za-z0-9_-]{1,64}; without one the server makes a stream at the first push. `inbox` is the
    directory for images, by default $FRAMEPIPE_INBOX or /dev/shm/framepipe-inbox. Calls that fail because the
    server is away are tried again for `reconnect_s` seconds, which the logger "framepipe" warns of; one who is no
    framepipe is not asked again. A client may be used from several threads, such as one that pushes and one that
    reads.

        with framepipe.Client("localhost:50051", stream="cam-1") as client:
            client.wait_ready(10)
            client.push(["a.jpg", "b.jpg"])
            for result in client.results(until_drained=True):
                print(result.name, result.error or result.detections)
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        stream: str | None = None,
        *,
        inbox: str | os.PathLike[str] | None = None,
        reconnect_s: float = 60.0,
    ) -> None:
        check_address(address)
        self.address = address
        if stream is not None and not re.fullmatch("[A-Za-z0-9_-]{1,64}", stream):
            raise InvalidRequest(f"stream {stream!r}: a stream id is 1 to 64 letters, digits, '-' and '_'")
        self.stream = stream
        self._inbox = Inbox(inbox)
        self._reconnect_s = reconnect_s
        options = _CHANNEL_OPTIONS + (_UNIX_OPTIONS if address.startswith(("unix:", "unix-abstract:")) else [])
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = FramepipeStub(self._channel)
        self._health = Health(self._channel, address)
        self._batches = Batches()
        self._closed = threading.Event()
        self._naming = threading.Lock()
        self._readers: weakref.WeakSet[Results] = weakref.WeakSet()

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Returns once the server serves; raises `Unavailable` after `timeout` seconds."""
        self._health.wait_ready(timeout, self._closed)

    def push(
        self,
        images: Iterable[Image],
        *,
        names: Sequence[str] | None = None,
        pixel_format: str | None = None,
        deadline_ms: int = 0,
        idempotency_key: str | None = None,
        wait: float = 0.0,
        hold: str = "reference",
        traceparent: str | None = None,
    ) -> Batch:
        """Pushes images as one batch, which the server accepts whole or not at all.

        An image is a path, encoded bytes, a uint8 array (height, width, 3) or (height, width), or a pair of a
        name and one of these. `names` gives all names at once. Arrays are raw frames of one shape, in
        `pixel_format` "rgb24" (the default), "bgr24" (OpenCV's) or "gray8"; or "nv12" or "i420", planar frames of
        video in arrays (height * 3 / 2, width), as OpenCV has them.

            client.push(["a.jpg", ("door", jpeg_bytes)], deadline_ms=500)
            client.push([frame], names=["0001"], pixel_format="bgr24")
            client.push([cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)], pixel_format="i420")

        The bytes go into one file of the inbox. It is deleted when the last of the batch's results has been
        received, or when `results(until_drained=True)` has come to the end of the stream; the file of a batch with
        unread results stays when the client is closed or dies, for the server has yet to read it. A push that
        fails deletes its file at once, with one exception: after `Unavailable` the server may have accepted the
        batch all the same, so with an `idempotency_key` of your own the file is kept for a push with the same key,
        which then sends the same batch again. Without one each push has a key of its own, so that the repeats that
        this method makes while the server is away enqueue nothing twice.

        `wait`: seconds to wait for room while the server is at its limit, before `Overloaded` is raised. The
        server keeps the call's turn meanwhile.

        `hold`: "copy" lets the server copy the images before the call returns, so that the file is deleted then.

        `traceparent`: the span that this push belongs to, as W3C's Trace Context writes it. The spans of its frames are
        that one's children, and are recorded if its flags say so (`[traces]` of the server's configuration).
        """
        held = hold_of(hold)
        batch = read(images, names, pixel_format)
        key = idempotency_key or new_key()
        blob = self._batches.take_unconfirmed(key) or self._inbox.write(batch.sources, self.stream)
        try:
            request = pb.PushDataRequest(
                location=blob.path,
                sizes=blob.sizes,
                names=batch.names,
                deadline_ms=deadline_ms,
                idempotency_key=key,
                raw=batch.raw,
                hold=held,
            )
            pushed = self._push(request, None if hold == "copy" else blob, wait, traceparent=traceparent)
        except BaseException as error:
            if idempotency_key and not _is_refusal(error):
                self._batches.keep_unconfirmed(key, blob)
            else:
                blob.delete()
            if isinstance(error, PermissionDenied):
                raise PermissionDenied(f"{error}: {WHICH}", error.code) from error
            raise
        if hold == "copy":
            blob.delete()
        return pushed

    def upload(
        self,
        images: Iterable[Image],
        *,
        names: Sequence[str] | None = None,
        pixel_format: str | None = None,
        deadline_ms: int = 0,
        idempotency_key: str | None = None,
        wait: float = 0.0,
        traceparent: str | None = None,
    ) -> Batch:
        """Sends images with the call, for a server on another host, which keeps them itself: no file is made.

        The arguments are those of `push`, and so is what is accepted: the batch, whole or not at all. Paths are read
        here. A broken connection is no reason to send a batch twice: each has a key.

            client.upload(["a.jpg", ("door", jpeg_bytes)])
        """
        batch = read(images, names, pixel_format)
        with Upload(batch.sources) as upload:
            request = pb.PushDataRequest(
                sizes=upload.sizes,
                names=batch.names,
                deadline_ms=deadline_ms,
                idempotency_key=idempotency_key or new_key(),
                raw=batch.raw,
            )

            def call(message: pb.PushDataRequest, timeout: float, metadata: Metadata) -> pb.PushDataResponse:
                patience = timeout + sum(upload.sizes) / UPLOAD_BYTES_PER_S_LEAST
                return upload.send(self._stub.Upload, message, patience, metadata)

            return self._push(request, None, wait, call, traceparent)

    def push_files(
        self,
        files: Sequence[str] = (),
        *,
        location: str = "",
        sizes: Sequence[int] = (),
        names: Sequence[str] = (),
        raw: pb.RawFrameFormat | None = None,
        deadline_ms: int = 0,
        idempotency_key: str | None = None,
        wait: float = 0.0,
        hold: str = "reference",
        traceparent: str | None = None,
    ) -> Batch:
        """Pushes files that the server can read where they are: this client copies and deletes nothing.

        Give `files`, one file an image, or `location` and `sizes`: one file that holds the images one after
        another. All are absolute paths below the server's roots, and must stay unchanged until the results come;
        with `hold="copy"`, which lets the server copy them, until the call returns.
        `raw` tells the geometry of raw frames: `framepipe.images.raw_format("rgb24", 640, 480)`.

            client.push_files(["/dev/shm/framepipe-inbox/a.jpg"])
        """
        count = len(sizes) if location else len(files)
        if bool(location) == bool(files) or not count:
            raise InvalidRequest("push_files takes files, or else location and sizes")
        if names:
            check_count("names", names, count)
        request = pb.PushDataRequest(
            location=location,
            sizes=sizes,
            files=files,
            names=names,
            deadline_ms=deadline_ms,
            idempotency_key=idempotency_key or new_key(),
            raw=raw,
            hold=hold_of(hold),
        )
        return self._push(request, None, wait, traceparent=traceparent)

    def results(
        self,
        until_drained: bool = False,
        timeout: float | None = None,
        ordered: bool = False,
        window: int = 1024,
        *,
        after: int = 0,
        ack_every: int = 64,
    ) -> Results:
        """Iterates over the stream's results, from the first one that is not acknowledged.

        until_drained: end when all that was accepted is delivered, instead of waiting for more.
        timeout: seconds to wait for one result; then `ResultTimeout`, after which the iteration may go on.
        ordered: by frame number instead of in order of completion, holding back at most `window` results. It is
            exact for frames that this client pushed. A client that only reads cannot know which numbers belong to
            its stream; it sorts within the window, and a `window` as small as the disorder keeps its delay short.
        after: acknowledge all results up to this sequence, and begin behind it.
        ack_every: acknowledge at the latest after so many results (or half a second, or at the end).

        When the connection breaks, the iteration goes on where it was; no result is lost or repeated. A result is
        acknowledged once you ask for the next one: after a `break` the one in hand comes again in the next
        `results()`, unless you call `ack(result.sequence)` (not with `ordered`). A second reader of the stream ends
        this one with `ReaderReplaced`.
        """
        if self.stream is None:
            raise InvalidRequest("the client has no stream yet: push first, or give Client(stream=...)")
        if window < 1 or ack_every < 1:
            raise InvalidRequest(f"window is {window}, ack_every is {ack_every}: both must be 1 or more")
        reader = Results(
            self._stub,
            self.address,
            self.stream,
            self._batches,
            self._backoff(),
            after=after,
            until_drained=until_drained,
            timeout=timeout,
            order=ByFrame(window, self._batches) if ordered else AsCompleted(),
            ack_every=ack_every,
        )
        self._readers.add(reader)
        return reader

    def ack(self, sequence: int) -> int:
        """Acknowledges all results up to `sequence`; returns how many the server still keeps.

        `results` does so by itself; call this for the result in hand before leaving the loop. Not in an ordered
        iteration: sequences follow the order of completion, so that results still held back would be acknowledged too.
        """
        request = pb.AckResultsRequest(stream=self.stream or "", sequence=sequence)
        return self._call(self._stub.AckResults, request).kept

    def release(self, batch: Batch) -> None:
        """Deletes the file of a batch whose results another process has read."""
        self._batches.release(batch)

    def close(self) -> None:
        """Ends all iterations, acknowledging what they are done with, and the connection."""
        self._closed.set()
        for reader in list(self._readers):
            reader.close()
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _push(
        self,
        request: pb.PushDataRequest,
        blob: Blob | None,
        wait: float,
        method: Callable[..., Any] | None = None,
        traceparent: str | None = None,
    ) -> Batch:
        metadata = [("traceparent", traceparent)] if traceparent else None
        until = time.monotonic() + wait
        # Two first pushes at once must not make two streams.
        with self._naming if self.stream is None else nullcontext():
            request.stream = self.stream or ""
            while True:
                left = until - time.monotonic()
                request.wait_ms = int(1000 * min(max(left, 0), ROOM_WAIT_S))
                try:
                    with self._batches.pushing():
                        answer = self._call(method or self._stub.PushData, request, metadata)
                        self._batches.accepted(answer.first_frame, answer.accepted, blob)
                    break
                except Overloaded as overloaded:
                    if left <= 0 or self._closed.wait(min(overloaded.retry_after or 0.02, left)):
                        raise
            self.stream = answer.stream
        return Batch(
            answer.stream,
            answer.first_frame,
            answer.accepted,
            list(request.names),
            blob.path if blob else None,
        )

    def _call(self, method: Callable[..., Any], request: Any, metadata: Metadata = None) -> Any:
        """Makes a call, again while the server is away: every request can be repeated without harm."""
        backoff = self._backoff()
        while True:
            try:
                return method(request, timeout=CALL_TIMEOUT_S, metadata=metadata)
            except grpc.RpcError as error:
                if not is_broken_connection(error):
                    raise from_rpc(error) from error
                seen = why(self.address, error)
                if is_another(error) or not backoff.pause(seen):
                    raise Unavailable(seen, error.code()) from error

    def _backoff(self) -> Backoff:
        return Backoff(self._reconnect_s, self._closed, self._health.connect)


def _is_refusal(error: BaseException) -> bool:
    """Whether the server answered, and accepted nothing."""
    return isinstance(error, (Overloaded, InvalidRequest)) or (
        getattr(error, "code", None)
        in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)
    )
