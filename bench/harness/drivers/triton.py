"""Triton's own Python client over gRPC: images inside the requests, or in a registered region of shared memory."""

import itertools
import time
import uuid
from contextlib import suppress

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import shared_memory

from harness.drivers import Done, Material

READY_S = 180
ANSWER_S = 60
POLL_S = 0.2


class Connection:
    """One client. Requests are made once: the images are sent again and again, as a client with buffers would."""

    def __init__(self, address: str, material: Material, options: dict) -> None:
        """Wait for the server. `options`: the model, `by`, "inline" or "shm", and how names in /dev/shm begin."""
        self._client = triton.InferenceServerClient(address)
        self._model = options["model"]
        self._material = material
        self._region = None
        self._by = options["by"]
        self._shm_prefix = options["shm_prefix"]
        self._await_ready()
        self._requests: dict[int, itertools.cycle] = {}

    def round_trip(self, batch: int) -> list[int]:
        """Infer, and look at the answer."""
        return self._found(self._client.infer(self._model, next(self._inputs(batch)), client_timeout=ANSWER_S))

    def submit(self, batch: int, done: Done) -> None:
        """Infer without waiting."""

        def answered(result: triton.InferResult | None, error: Exception | None) -> None:
            done([None] * batch if error else self._found(result))

        self._client.async_infer(self._model, next(self._inputs(batch)), answered, client_timeout=ANSWER_S)

    def close(self) -> None:
        """Unregister the region, and end the connection."""
        if self._region:
            # Requests that were lost with a killed process keep it in use for ever, and a dead server knows of none.
            with suppress(triton.InferenceServerException):
                self._client.unregister_system_shared_memory(self._name)
            shared_memory.destroy_shared_memory_region(self._region)
        self._client.close()

    def _found(self, result: triton.InferResult) -> list[int]:
        """Return each frame's detections: rows of a table, or the numbers that no-op models answer."""
        if self._material.raw:
            return result.as_numpy("RESULT").reshape(-1).tolist()
        return [len(result.as_numpy("DETECTIONS"))]

    def _await_ready(self) -> None:
        until = time.monotonic() + READY_S
        while True:
            try:
                if self._client.is_model_ready(self._model):
                    return
            except triton.InferenceServerException:
                pass
            if time.monotonic() > until:
                raise TimeoutError(f"Triton's model {self._model} is not ready after {READY_S} s")
            time.sleep(POLL_S)

    def _inputs(self, batch: int) -> itertools.cycle:
        if batch not in self._requests:
            if self._material.raw:
                width, height = self._material.raw
                arrays = [np.fromfile(self._material.files[0], np.uint8)[: batch * 3 * width * height]]
                arrays = [array.reshape(batch, height, width, 3) for array in arrays]
                name = "FRAME"
            elif batch == 1:
                arrays, name = [np.fromfile(path, np.uint8) for path in self._material.files], "IMAGE"
            else:
                raise ValueError("encoded images are one a request")
            self._requests[batch] = itertools.cycle(self._made(name, arrays))
        return self._requests[batch]

    def _made(self, name: str, arrays: list[np.ndarray]) -> list[list[triton.InferInput]]:
        inputs = [triton.InferInput(name, array.shape, "UINT8") for array in arrays]
        if self._by == "inline":
            for one, array in zip(inputs, arrays, strict=True):
                one.set_data_from_numpy(array)
        else:
            if self._region:
                self._client.unregister_system_shared_memory(self._name)
                shared_memory.destroy_shared_memory_region(self._region)
                self._requests.clear()
            self._name, size = f"{self._shm_prefix}{uuid.uuid4().hex[:8]}", sum(array.size for array in arrays)
            self._region = shared_memory.create_shared_memory_region(self._name, f"/{self._name}", size)
            shared_memory.set_shared_memory_region(self._region, [array.reshape(-1) for array in arrays])
            self._client.register_system_shared_memory(self._name, f"/{self._name}", size)
            offset = 0
            for one, array in zip(inputs, arrays, strict=True):
                one.set_shared_memory(self._name, array.size, offset)
                offset += array.size
        return [[one] for one in inputs]
