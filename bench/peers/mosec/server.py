"""The cascade under mosec: a Rust controller, a Python process for each worker of a stage, Unix sockets between them.

Told by environment variables, because each worker's process reads this file anew:

    BENCH_WORKLOAD    noop1 (one no-op stage), noop (three) or street
    BENCH_BY          inline (a request is the image's bytes) or path (it is JSON: where in tmpfs they lie)
    FRAMEPIPE_MODELS  framepipe's model repository

Run: server.py --address 127.0.0.1 --port PORT (mosec's own options). Requests: POST /inference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from cascade import manifest
from cascade.allocator import keep_large_blocks
from cascade.source import read
from mosec import Server, Worker

WORKLOAD = os.environ["BENCH_WORKLOAD"]
IS_BY_PATH = os.environ["BENCH_BY"] == "path"
DETECTOR = "nanodet416-4c-int8"
DETECT_PROCESSES = 2
ANSWER_MS_MAX = 60_000
REQUEST_BYTES_MAX = 64 << 20


def detector() -> manifest.Model:
    """Return NanoDet's manifest."""
    keep_large_blocks()
    return manifest.load(Path(os.environ["FRAMEPIPE_MODELS"]), DETECTOR)


class First(Worker):
    """A first stage takes the image in."""

    def deserialize(self, data: bytes) -> bytes | np.ndarray:
        """Return the image's bytes."""
        return read(data) if IS_BY_PATH else data


class PassFirst(First):
    """A no-op model: the frame goes on."""

    def forward(self, data: bytes | np.ndarray) -> bytes | np.ndarray:
        """Return the frame."""
        return data


class TakeFirst(First):
    """A no-op model that is alone."""

    def forward(self, data: bytes | np.ndarray) -> list:
        """Find nothing."""
        return []

    def serialize(self, data: list) -> bytes:
        """Return JSON."""
        return b"[]"


class PassDetect(Worker):
    """A no-op model: a frame in, nothing out."""

    def __init__(self) -> None:
        """Say which process this is."""
        super().__init__()
        print(f"mosec: detect is {os.getpid()}", flush=True)

    def forward(self, data: bytes | np.ndarray) -> list:
        """Find nothing."""
        return []


class PassLast(Worker):
    """A no-op model that answers."""

    def forward(self, data: list) -> list:
        """Return it."""
        return data

    def serialize(self, data: list) -> bytes:
        """Return JSON."""
        return b"[]"


class Preprocess(First):
    """Decodes and makes the tensor."""

    def __init__(self) -> None:
        """Make the buffers."""
        from cascade.images import Preprocessor, decode  # noqa: PLC0415 (OpenCV, which the other workers need not load)

        super().__init__()
        self._decode = decode
        self._preprocessor = Preprocessor(detector().input)
        self._tensor = np.empty((1, *self._preprocessor.shape), np.float32)

    def forward(self, data: bytes | np.ndarray) -> tuple:
        """Return the tensor and its placement."""
        encoded = np.frombuffer(data, np.uint8)
        return self._tensor, self._preprocessor.image(self._decode(encoded), self._tensor[0])


class Detect(Worker):
    """Runs the detector."""

    def __init__(self) -> None:
        """Open the session."""
        from cascade.engine import open_session  # noqa: PLC0415 (ONNX Runtime)

        super().__init__()
        model = detector()
        self._input = model.input.tensor
        self._session = open_session(model.graph)
        print(f"mosec: detect is {os.getpid()}", flush=True)

    def forward(self, data: tuple) -> tuple:
        """Return the raw outputs and the placement."""
        tensor, placement = data
        return self._session.run(None, {self._input: tensor}), placement


class Postprocess(Worker):
    """Makes detections of raw outputs."""

    def __init__(self) -> None:
        """Look up the head; the graph puts out what it names, in this order."""
        from cascade.heads import Head  # noqa: PLC0415 (OpenCV)

        super().__init__()
        model = detector()
        head = model.detector["head"]["nanodet"]
        self._head = Head(model, [*head["scores"], *head["boxes"]])

    def forward(self, data: tuple) -> list:
        """Return the detections."""
        return self._head.detections(*data)

    def serialize(self, data: list) -> bytes:
        """Return JSON."""
        return json.dumps(data).encode()


STAGES = {
    "noop1": [(TakeFirst, 1)],
    "noop": [(PassFirst, 1), (PassDetect, DETECT_PROCESSES), (PassLast, 1)],
    "street": [(Preprocess, 1), (Detect, DETECT_PROCESSES), (Postprocess, 1)],
}


if __name__ == "__main__":
    os.environ["MOSEC_TIMEOUT"] = str(ANSWER_MS_MAX)
    os.environ["MOSEC_MAX_REQUEST_SIZE"] = str(REQUEST_BYTES_MAX)
    server = Server()
    for worker, processes in STAGES[WORKLOAD]:
        server.append_worker(worker, num=processes)
    server.run()
