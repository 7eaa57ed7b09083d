"""What is at a server's address: which addresses there may be, and in plain words how a call to one failed."""

from __future__ import annotations

import re

import grpc

from .errors import InvalidRequest

_HOST_PORT = re.compile(r"(\[[^\[\]/]+\]|[^:/\[\]\s]+):([0-9]{1,5})")
# The library's own names of addresses, each with what it is of behind its colon.
_TARGET = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6|vsock|xds):.+")
_IS_IT_UP = "is it up (framepipe up --config FILE), and is this its address?"
# What the library says of those who do not speak HTTP/2.
_SPEAKS_NO_GRPC = ("Failed parsing HTTP/2", "http1.x server")
_SEEN = {
    "Connection refused": "nothing listens there",
    "No such file or directory": "there is no such socket",
    "Permission denied": "this user may not connect to it",
    "No route to host": "no way leads there",
    "Network is unreachable": "no way leads there",
    "Domain name not found": "there is no such host",
    "DNS resolution failed": "its host's name cannot be looked up",
    "before receiving SETTINGS frame": "who listens there does not answer",
    "Deadline Exceeded": "nobody answers there",
}


def check_address(address: str) -> None:
    """Raises InvalidRequest unless it is "host:port" or "unix:/path", or another target of gRPC's, such as "dns:///host:port"."""
    if _TARGET.fullmatch(address):
        return
    host_port = _HOST_PORT.fullmatch(address)
    if not host_port or not 1 <= int(host_port[2]) <= 65535:
        raise InvalidRequest(
            f'address {address!r}: give "host:port", such as "localhost:50051", or "unix:/path"; a port is 1 to 65535'
        )


def is_another(error: grpc.RpcError) -> bool:
    """Whether who listens there is no framepipe, for certain: trying again is in vain."""
    return any(words in (error.details() or "") for words in _SPEAKS_NO_GRPC)


def why(address: str, error: grpc.RpcError) -> str:
    """What is at the address, and what to do."""
    if is_another(error):
        return no_framepipe(address)
    details = error.details() or error.code().name
    seen = next((seen for words, seen in _SEEN.items() if words in details), None)
    return f"framepipe at {address}: {seen}: {_IS_IT_UP}" if seen else f"framepipe at {address}: {details}"


def no_framepipe(address: str) -> str:
    """Somebody else listens there."""
    return f"what listens at {address} is no framepipe: give the address that framepipe has (server.tcp, server.unix)"
