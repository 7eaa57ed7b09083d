"""The cascade under mosec: a Rust controller, a Python process for each worker of a stage, Unix sockets between them.

Told by environment variables, because each worker's process reads this file anew:

    BENCH_WORKLOAD    JSON: "stages" (1 or 3, of a no-op model), or "detector", "attributes" with their "processes",
                      "crops_max" and "raw", width and height of RGB frames that are no encoded images
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

WORKLOAD = json.loads(os.environ["BENCH_WORKLOAD"])
IS_BY_PATH = os.environ["BENCH_BY"] == "path"
MODELS = Path(os.environ["FRAMEPIPE_MODELS"])
RAW = (*WORKLOAD["raw"], True) if WORKLOAD.get("raw") else None
DETECT_PROCESSES = 2
ANSWER_MS_MAX = 60_000
REQUEST_BYTES_MAX = 64 << 20


def detector() -> manifest.Model:
    """Return the detector's manifest."""
    keep_large_blocks()
    return manifest.load(MODELS, WORKLOAD["detector"])


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
        from cascade.images import Preprocessor, pixels  # noqa: PLC0415 (OpenCV, which the other workers need not load)

        super().__init__()
        self._pixels = pixels
        self._preprocessor = Preprocessor(detector().input)
        self._tensor = np.empty((1, *self._preprocessor.shape), np.float32)

    def forward(self, data: bytes | np.ndarray) -> tuple:
        """Return the tensor, its placement, and the image's bytes where attribute models follow.

        They are decoded again there: 6 MB of pixels do not go from socket to socket.
        """
        placement = self._preprocessor.image(self._pixels(np.frombuffer(data, np.uint8), RAW), self._tensor[0])
        return self._tensor, placement, data if WORKLOAD["attributes"] else None


class Detect(Worker):
    """Runs the detector."""

    def __init__(self) -> None:
        """Open the session."""
        from cascade.engine import open_session  # noqa: PLC0415 (ONNX Runtime)

        super().__init__()
        model = detector()
        self._input = model.input.tensor
        self._session = open_session(model.graph)
        self._names = [output.name for output in self._session.get_outputs()]
        print(f"mosec: detect is {os.getpid()}", flush=True)

    def forward(self, data: tuple) -> tuple:
        """Return the raw outputs, their names, and what goes on."""
        tensor, *rest = data
        return self._session.run(self._names, {self._input: tensor}), self._names, *rest


class Postprocess(Worker):
    """Makes detections of raw outputs."""

    def __init__(self) -> None:
        """Have no head yet: the first outputs say their names."""
        super().__init__()
        self._head = None

    def forward(self, data: tuple) -> list | tuple:
        """Return the detections; with the image's bytes, where attribute models follow."""
        outputs, names, placement, encoded = data
        if self._head is None:
            from cascade.heads import Head  # noqa: PLC0415 (OpenCV)

            self._head = Head(detector(), names)
        detections = self._head.detections(outputs, placement)
        return (detections, encoded if detections else None) if WORKLOAD["attributes"] else detections

    def serialize(self, data: list) -> bytes:
        """Return JSON."""
        return json.dumps(data).encode()


class Attribute(Worker):
    """Describes what was found."""

    def __init__(self) -> None:
        """Open the models."""
        from cascade.attributes import AttributeModel  # noqa: PLC0415 (ONNX Runtime)
        from cascade.images import pixels  # noqa: PLC0415
        from cascade.whole import described  # noqa: PLC0415

        super().__init__()
        self._pixels, self._described = pixels, described
        labels, crops_max = detector().detector["labels"], WORKLOAD["crops_max"]
        models = (manifest.load(MODELS, name) for name in WORKLOAD["attributes"])
        self._models = [AttributeModel(model, labels, crops_max) for model in models]

    def forward(self, data: tuple) -> list:
        """Return pairs, each of a detection and its attributes."""
        detections, encoded = data
        if not detections:
            return []
        image = self._pixels(np.frombuffer(encoded, np.uint8), RAW)
        return self._described(self._models, WORKLOAD["crops_max"], image, detections)

    def serialize(self, data: list) -> bytes:
        """Return JSON."""
        return json.dumps(data).encode()


def stages() -> list[tuple[type[Worker], int]]:
    """Return the workers of each stage, and how many processes they have."""
    if WORKLOAD.get("stages") == 1:
        return [(TakeFirst, 1)]
    if "stages" in WORKLOAD:
        return [(PassFirst, 1), (PassDetect, DETECT_PROCESSES), (PassLast, 1)]
    chain = [(Preprocess, 1), (Detect, DETECT_PROCESSES), (Postprocess, 1)]
    return [*chain, (Attribute, WORKLOAD["processes"])] if WORKLOAD["attributes"] else chain


if __name__ == "__main__":
    os.environ["MOSEC_TIMEOUT"] = str(ANSWER_MS_MAX)
    os.environ["MOSEC_MAX_REQUEST_SIZE"] = str(REQUEST_BYTES_MAX)
    server = Server()
    for worker, processes in stages():
        server.append_worker(worker, num=processes)
    server.run()
