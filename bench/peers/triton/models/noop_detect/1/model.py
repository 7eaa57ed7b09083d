"""A no-op model: a tensor in, a number out."""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance."""

    def execute(self, requests: list) -> list:
        """Answer each request."""
        return [pb_utils.InferenceResponse([pb_utils.Tensor("RAW", raw_of(request))]) for request in requests]


def raw_of(request: pb_utils.InferenceRequest) -> np.ndarray:
    """Return a number a tensor."""
    tensors = pb_utils.get_input_tensor_by_name(request, "TENSOR").as_numpy()
    return np.zeros((len(tensors), 1), np.int32)
