"""Makes NanoDet's raw outputs detections: x0, y0, x1, y1, class, score."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from cascade import manifest
from cascade.heads import Head
from cascade.results import Placement

DETECTOR = "nanodet416-4c-int8"


class TritonPythonModel:
    """One instance."""

    def initialize(self, arguments: dict) -> None:
        """Look up the head."""
        model = manifest.load(Path(os.environ["FRAMEPIPE_MODELS"]), DETECTOR)
        head = model.detector["head"]["nanodet"]
        self._names = [f"{kind}_{stride}" for kind in ("SCORES", "BOXES") for stride in head["strides"]]
        self._head = Head(model, [*head["scores"], *head["boxes"]])

    def execute(self, requests: list) -> list:
        """Answer each request."""
        return [self._one(request) for request in requests]

    def _one(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        outputs = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._names]
        placement = Placement(*pb_utils.get_input_tensor_by_name(request, "PLACEMENT").as_numpy().tolist())
        found = np.array(self._head.detections(outputs, placement), np.float32).reshape(-1, 6)
        return pb_utils.InferenceResponse([pb_utils.Tensor("DETECTIONS", found)])
