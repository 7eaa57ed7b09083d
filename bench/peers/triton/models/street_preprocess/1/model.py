"""Decodes a JPEG and makes NanoDet's tensor."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from cascade import manifest
from cascade.allocator import keep_large_blocks
from cascade.images import Preprocessor, decode

DETECTOR = "nanodet416-4c-int8"


class TritonPythonModel:
    """One instance."""

    def initialize(self, arguments: dict) -> None:
        """Make the buffers."""
        keep_large_blocks()
        model = manifest.load(Path(os.environ["FRAMEPIPE_MODELS"]), DETECTOR)
        self._preprocessor = Preprocessor(model.input)
        self._tensor = np.empty((1, *self._preprocessor.shape), np.float32)

    def execute(self, requests: list) -> list:
        """Answer each request."""
        return [self._one(request) for request in requests]

    def _one(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        encoded = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        try:
            placement = self._preprocessor.image(decode(encoded), self._tensor[0])
        except ValueError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse([
            pb_utils.Tensor("TENSOR", self._tensor),
            pb_utils.Tensor("PLACEMENT", np.array(placement, np.float32)),
        ])
