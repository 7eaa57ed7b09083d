"""An upload: the push's words, then the images' bytes, piece by piece, as fast as the server takes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, BinaryIO, Callable, Optional, Union

from ._generated import framepipe_pb2 as pb

# Bytes of a message with data: what the server takes at most is 1 MiB.
DATA_BYTES = 256 << 10

# Headers of a call.
Metadata = Optional[list[tuple[str, str]]]

_Opened = Union[BinaryIO, memoryview]


class Upload:
    """The images of one upload: files are opened at once, so that their sizes are those of what is sent."""

    def __init__(self, sources: list[str | memoryview | bytes]) -> None:
        self._files = ExitStack()
        self._opened: list[_Opened] = []
        self._error: OSError | None = None
        try:
            self._opened.extend(self._open(source) for source in sources)
            self.sizes = [_size(opened) for opened in self._opened]
        except BaseException:
            self._files.close()
            raise

    def send(
        self,
        method: Callable[..., Any],
        push: pb.PushDataRequest,
        timeout: float,
        metadata: Metadata = None,
    ) -> Any:
        """Makes one call; what went wrong with a file is raised as it is."""
        self._error = None
        try:
            return method(self._messages(push), timeout=timeout, metadata=metadata)
        except Exception as error:
            if self._error:
                raise self._error from error
            raise

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def _open(self, source: str | memoryview | bytes) -> _Opened:
        if isinstance(source, str):
            return self._files.enter_context(open(source, "rb"))
        return memoryview(source)

    def _messages(self, push: pb.PushDataRequest) -> Iterator[pb.UploadRequest]:
        yield pb.UploadRequest(push=push)
        try:
            for opened, size in zip(self._opened, self.sizes):
                for begin in range(0, size, DATA_BYTES):
                    yield pb.UploadRequest(data=_piece(opened, begin, min(DATA_BYTES, size - begin)))
        except OSError as error:
            self._error = error  # the library would say that iterating failed, and nothing else
            raise


def _size(opened: _Opened) -> int:
    return opened.nbytes if isinstance(opened, memoryview) else os.fstat(opened.fileno()).st_size


def _piece(opened: _Opened, begin: int, count: int) -> bytes:
    if isinstance(opened, memoryview):
        return bytes(opened[begin : begin + count])
    piece = os.pread(opened.fileno(), count, begin)
    if len(piece) < count:
        raise OSError(f"{opened.name} became shorter while it was uploaded")
    return piece
