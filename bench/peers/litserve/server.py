"""The cascade under LitServe: FastAPI in one process, workers in others, queues of `multiprocessing` between them.

LitServe has no chain of stages, so a worker does a frame's whole work. Nor has it requests of raw bytes: a request is
JSON that says where in tmpfs the image lies, {"path", "offset", "size"}. POST /predict.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import litserve
import numpy as np
from cascade.allocator import keep_large_blocks
from cascade.source import read_part
from starlette.responses import Response

ANSWER_S_MAX = 60


class NoOp(litserve.LitAPI):
    """Reads the image, and finds nothing."""

    def setup(self, device: str) -> None:
        """Say which process this is."""
        keep_large_blocks()
        print(f"litserve: detect is {os.getpid()}", flush=True)

    def decode_request(self, request):
        """Return the image's bytes."""
        return read_part(request["path"], request["offset"], request["size"])

    def predict(self, encoded: np.ndarray) -> list:
        """Find nothing."""
        return []

    def encode_response(self, output: list) -> Response:
        """Return JSON: a list would be walked, number by number, by FastAPI's encoder first."""
        return Response(json.dumps(output), media_type="application/json")


class Cascade(NoOp):
    """Finds and describes."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Keep what is to be opened: the models are, in the worker."""
        super().__init__()
        self._arguments = arguments

    def setup(self, device: str) -> None:
        """Open the models."""
        from cascade.whole import Whole  # noqa: PLC0415 (the server's process needs none of its packages)

        super().setup(device)
        asked = self._arguments
        raw = (*asked.raw, True) if asked.raw else None
        self._whole = Whole(asked.models, asked.detector, asked.attributes, asked.crops_max, raw)

    def predict(self, encoded: np.ndarray) -> list:
        """Return the detections, with attributes if there are such models."""
        return self._whole.find(encoded)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", default="", help="without one, nothing is found")
    parser.add_argument("--attributes", type=lambda names: names.split(",") if names else [], default=[])
    parser.add_argument("--crops-max", type=int, default=32)
    parser.add_argument("--raw", type=int, nargs=2, help="width and height of RGB frames that are no encoded images")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", type=Path, required=True, help="framepipe's model repository")
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    arguments = parser.parse_args()
    api = Cascade(arguments) if arguments.detector else NoOp()
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=arguments.workers, timeout=ANSWER_S_MAX, disable_openapi_url=True
    )
    server.run(
        host="127.0.0.1",
        port=arguments.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
