"""The errors of the client: one class for each thing that a caller can do about one.

A frame that the server accepted and could not process is no exception: it is a result with an `error`.
"""

from __future__ import annotations

import grpc


class FramepipeError(Exception):
    """Any error of this client. `code` is the gRPC status that the server answered with, if it was one."""

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class InvalidRequest(FramepipeError, ValueError):
    """The request cannot be so: sizes, names, a stream id, the shape of an array. Trying again is in vain."""


class NotFound(FramepipeError):
    """There is no such file, or no such stream yet."""


class PermissionDenied(FramepipeError):
    """The location lies outside the roots that the server reads, or is a symlink."""


class Overloaded(FramepipeError):
    """The server is at a limit that its message names. Read and acknowledge results, then push again.

    `retry_after` is the server's advice, in seconds, when to try again; None without one.
    """

    retry_after: float | None = None


class Unavailable(FramepipeError):
    """No server answers, or it is draining."""


class ReaderReplaced(FramepipeError):
    """Another reader took over the stream: a stream has one reader, and the newest wins."""


class ResultTimeout(FramepipeError, TimeoutError):
    """No result came in time. The iteration may go on: nothing is lost."""


class InboxError(FramepipeError):
    """The inbox directory, through which images reach the server, is absent or not writable."""


_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.ABORTED: ReaderReplaced,
}


def from_rpc(error: grpc.RpcError) -> FramepipeError:
    """The exception for a failed call, with the server's own message."""
    code = error.code()
    kind = _BY_CODE.get(code, FramepipeError)
    raised = kind(error.details() or f"the server answered {code.name} without a message", code)
    if isinstance(raised, Overloaded):
        raised.retry_after = _retry_after(error)
    return raised


def _retry_after(error: grpc.RpcError) -> float | None:
    """The advice in gRPC's own trailer, which is in milliseconds."""
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-retry-pushback-ms" and str(value).isdecimal():
            return int(value) / 1000
    return None


def is_broken_connection(error: grpc.RpcError) -> bool:
    """Whether the call failed on its way, so that the same call may succeed over a new connection."""
    code, details = error.code(), error.details() or ""
    if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        return "RST_STREAM" in details or "Stream removed" in details
    return code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
