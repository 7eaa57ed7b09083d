"""Runs NanoDet."""

from __future__ import annotations

import os
from pathlib import Path

import triton_python_backend_utils as pb_utils
from cascade import manifest
from cascade.allocator import keep_large_blocks
from cascade.engine import open_session

DETECTOR = "nanodet416-4c-int8"


class TritonPythonModel:
    """One instance."""

    def initialize(self, arguments: dict) -> None:
        """Open the session; the outputs' names are those of the manifest's head, in this order."""
        keep_large_blocks()
        model = manifest.load(Path(os.environ["FRAMEPIPE_MODELS"]), DETECTOR)
        head = model.detector["head"]["nanodet"]
        self._input = model.input.tensor
        self._session = open_session(model.graph)
        self._tensors = [*head["scores"], *head["boxes"]]
        self._names = [f"{kind}_{stride}" for kind in ("SCORES", "BOXES") for stride in head["strides"]]

    def execute(self, requests: list) -> list:
        """Answer each request."""
        return [self._one(request) for request in requests]

    def _one(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        tensor = pb_utils.get_input_tensor_by_name(request, "TENSOR").as_numpy()
        outputs = self._session.run(self._tensors, {self._input: tensor})
        return pb_utils.InferenceResponse([
            pb_utils.Tensor(name, output) for name, output in zip(self._names, outputs, strict=True)
        ])
