"""Python client of framepipe, a vision-inference server for one host.

    import framepipe

    with framepipe.Client("localhost:50051", stream="cam-1") as client:
        client.push(["a.jpg", "b.jpg"])
        for result in client.results(until_drained=True):
            print(result.name, result.error, [(d.label, d.score, d.box) for d in result.detections])

A map of the package: `client` (the calls), `images` and `inbox` (what push takes, and the file it makes of it),
`batches` (which frames are out, and when their file goes), `reader` (the results, across broken connections),
`progress`, `order` and `acknowledge` (what was delivered, in which order, and what the server may forget),
`records` (the results), `peer` (what is at an address that does not answer), `errors`, `backoff`.
"""

from .batches import Batch
from .client import Client
from .errors import (
    FramepipeError,
    InboxError,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    ReaderReplaced,
    ResultTimeout,
    Unavailable,
)
from .reader import Results
from .records import Attribute, Classification, Detection, FrameError, FrameResult, Keypoint, Mask, StageTime

__all__ = [
    "Attribute",
    "Batch",
    "Classification",
    "Client",
    "Detection",
    "FrameError",
    "FrameResult",
    "FramepipeError",
    "InboxError",
    "InvalidRequest",
    "Keypoint",
    "Mask",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "ReaderReplaced",
    "ResultTimeout",
    "Results",
    "StageTime",
    "Unavailable",
]
