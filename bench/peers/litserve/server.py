"""The cascade under LitServe: FastAPI in one process, workers in others, queues of `multiprocessing` between them.

LitServe has no chain of stages, so a worker does a frame's whole work. Nor has it requests of raw bytes: a request is
JSON that says where in tmpfs the image lies, {"path", "offset", "size"}. POST /predict.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import litserve
import numpy as np
from cascade import manifest
from cascade.allocator import keep_large_blocks
from cascade.source import read_part

DETECTOR = "nanodet416-4c-int8"
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

    def encode_response(self, output: list):
        """Return what becomes JSON."""
        return output


class Street(NoOp):
    """Finds what is in the street."""

    def __init__(self, models: Path) -> None:
        """Keep the repository's place: the models are opened in the worker."""
        super().__init__()
        self._models = models

    def setup(self, device: str) -> None:
        """Open the detector."""
        from cascade.engine import open_session  # noqa: PLC0415 (the server's process needs none of these)
        from cascade.heads import Head  # noqa: PLC0415
        from cascade.images import Preprocessor, decode  # noqa: PLC0415

        super().setup(device)
        model = manifest.load(self._models, DETECTOR)
        self._decode = decode
        self._preprocessor = Preprocessor(model.input)
        self._tensor = np.empty((1, *self._preprocessor.shape), np.float32)
        self._input = model.input.tensor
        self._session = open_session(model.graph)
        self._head = Head(model, [output.name for output in self._session.get_outputs()])

    def predict(self, encoded: np.ndarray) -> list:
        """Return the detections."""
        placement = self._preprocessor.image(self._decode(encoded), self._tensor[0])
        return self._head.detections(self._session.run(None, {self._input: self._tensor}), placement)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=("noop1", "street"), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", type=Path, required=True, help="framepipe's model repository")
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    arguments = parser.parse_args()
    api = NoOp() if arguments.workload == "noop1" else Street(arguments.models)
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
