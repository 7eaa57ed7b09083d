"""ONNX Runtime on the CPU, with framepipe's options."""

from pathlib import Path

import onnxruntime


def open_session(graph: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open a graph with so many threads, none of which spins while it waits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def output_shapes(session: onnxruntime.InferenceSession) -> list[tuple[int, ...]]:
    """Return the shapes of the outputs for one input."""
    return [
        tuple(side if isinstance(side, int) else 1 for side in output.shape) for output in session.get_outputs()
    ]
