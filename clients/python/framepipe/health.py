"""The standard health service, grpc.health.v1, without its generated stubs: two messages of one field."""

from __future__ import annotations

import contextlib
import threading

import grpc

from .backoff import Backoff
from .errors import Unavailable
from .peer import is_another, no_framepipe, why

SERVICE = "framepipe.v1.Framepipe"
_CALL_S = 2.0
# HealthCheckRequest { string service = 1 } and HealthCheckResponse { ServingStatus status = 1 } with SERVING = 1.
_REQUEST = bytes([0x0A, len(SERVICE)]) + SERVICE.encode()
_SERVING = b"\x08\x01"
# A gRPC server without a health service, or without this service.
_KNOWS_NO_FRAMEPIPE = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)


class Health:
    """Asks whether the server serves framepipe."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self._address = address
        self._check = channel.unary_unary("/grpc.health.v1.Health/Check", _same, _same)

    def wait_ready(self, timeout_s: float, closed: threading.Event) -> None:
        """Returns once the server says so; raises Unavailable after `timeout_s`, or at once of who is no framepipe."""
        backoff = Backoff(timeout_s, closed, self.connect)
        while True:
            try:
                answer = self._check(_REQUEST, timeout=min(_CALL_S, timeout_s))
                if answer == _SERVING:
                    return
                seen = f"framepipe at {self._address}: it says that it is not serving (status {answer.hex()})"
            except grpc.RpcError as error:
                if is_another(error) or error.code() in _KNOWS_NO_FRAMEPIPE:
                    raise Unavailable(no_framepipe(self._address), error.code()) from error
                seen = why(self._address, error)
            if not backoff.pause():
                raise Unavailable(f"not ready after {timeout_s:g} s: {seen}")

    def connect(self, timeout_s: float) -> None:
        """Waits at most `timeout_s` for a connection.

        The library makes progress with reconnecting only while some thread waits for an answer. Calls that fail
        at once, with sleep between them, never see a server that came back: this call waits instead.
        """
        with contextlib.suppress(grpc.RpcError, ValueError):  # ValueError: the channel is closed
            self._check(_REQUEST, timeout=timeout_s, wait_for_ready=True)


def _same(message: bytes) -> bytes:
    return message
