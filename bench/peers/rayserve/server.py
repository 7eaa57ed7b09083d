"""The cascade under Ray Serve: a proxy of HTTP, a controller, and replicas, processes that do a frame's whole work.

Chains of deployments would hand tensors over by an object store; one has none. A request is JSON
that says where in tmpfs the image lies, {"path", "offset", "size"}. POST /predict.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading

import ray
from cascade.allocator import keep_large_blocks
from cascade.asked import opened, options
from cascade.source import read_part
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

REPLICAS = 2
OBJECT_STORE_BYTES = 128 << 20
ONGOING_MAX = 16
QUIET = {"enable_access_log": False, "log_level": "WARNING"}
CORES = 1
"""What Ray counts replicas against, half of one each; it keeps as many idle interpreters."""


@serve.deployment(
    num_replicas=REPLICAS,
    max_ongoing_requests=ONGOING_MAX,
    ray_actor_options={"num_cpus": CORES / REPLICAS},
    logging_config=QUIET,
)
class Cascade:
    """Finds and describes; without a detector, nothing."""

    def __init__(self, asked: argparse.Namespace) -> None:
        """Open the models."""
        keep_large_blocks()
        self._whole = opened(asked)
        print(f"rayserve: detect is {os.getpid()}", flush=True)

    async def __call__(self, request: Request) -> Response:
        """Return the detections, with attributes if there are such models."""
        named = await request.json()
        encoded = read_part(named["path"], named["offset"], named["size"])
        found = self._whole.find(encoded) if self._whole else []
        # A list would be walked, number by number, by FastAPI's encoder before it is JSON.
        return Response(json.dumps(found), media_type="application/json")


def main() -> None:
    """Run the command line, until SIGTERM."""
    asked = options(__doc__)
    # Ray's own place, /tmp/ray, stays for good.
    with tempfile.TemporaryDirectory(prefix="bench-ray.", ignore_cleanup_errors=True) as folder:
        ray.init(
            "local",
            num_cpus=CORES,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=folder,
        )
        serve.start(http_options={"host": "127.0.0.1", "port": asked.port}, logging_config=QUIET)
        serve.run(Cascade.bind(asked), route_prefix="/predict")
        ended = threading.Event()
        for end in (signal.SIGTERM, signal.SIGINT):
            signal.signal(end, lambda *_: ended.set())
        ended.wait()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
