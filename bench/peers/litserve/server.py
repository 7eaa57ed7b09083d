"""The cascade under LitServe: FastAPI in one process, workers in others, queues of `multiprocessing` between them.

LitServe has no chain of stages, so a worker does a frame's whole work. Nor has it requests of raw bytes: a request is
JSON that says where in tmpfs the image lies, {"path", "offset", "size"}. POST /predict.
"""

from __future__ import annotations

import argparse
import json
import os

import litserve
import numpy as np
from cascade.allocator import keep_large_blocks
from cascade.asked import opened, options
from cascade.source import read_part
from starlette.responses import Response

ANSWER_S_MAX = 60
WORKERS = 2


class Cascade(litserve.LitAPI):
    """Finds and describes; without a detector, nothing."""

    def __init__(self, asked: argparse.Namespace) -> None:
        """Keep what is to be opened: the models are, in the worker."""
        super().__init__()
        self._asked = asked

    def setup(self, device: str) -> None:
        """Open the models, and say which process this is."""
        keep_large_blocks()
        self._whole = opened(self._asked)
        print(f"litserve: detect is {os.getpid()}", flush=True)

    def decode_request(self, request):
        """Return the image's bytes."""
        return read_part(request["path"], request["offset"], request["size"])

    def predict(self, encoded: np.ndarray) -> list:
        """Return the detections, with attributes if there are such models."""
        return self._whole.find(encoded) if self._whole else []

    def encode_response(self, output: list) -> Response:
        """Return JSON: a list would be walked, number by number, by FastAPI's encoder first."""
        return Response(json.dumps(output), media_type="application/json")


def main() -> None:
    """Run the command line."""
    asked = options(__doc__)
    api = Cascade(asked)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=WORKERS, timeout=ANSWER_S_MAX, disable_openapi_url=True
    )
    server.run(
        host="127.0.0.1",
        port=asked.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
