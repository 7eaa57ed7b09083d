"""A no-op model: a number in, a number out."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance."""

    def execute(self, requests: list) -> list:
        """Answer each request."""
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor("RESULT", pb_utils.get_input_tensor_by_name(request, "RAW").as_numpy())
            ])
            for request in requests
        ]
