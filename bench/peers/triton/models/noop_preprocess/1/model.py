"""A no-op model: a frame in, a tensor of the same bytes out."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance."""

    def execute(self, requests: list) -> list:
        """Answer each request."""
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor("TENSOR", pb_utils.get_input_tensor_by_name(request, "FRAME").as_numpy())
            ])
            for request in requests
        ]
