"""ONNX Runtime sessions with the product's options."""

from pathlib import Path

import onnxruntime


def open_session(graph: Path, fused: bool = True) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU with one thread and without spinning.

    Not `fused`, a quantised graph's layers are computed in floats of the quantised numbers, as a device does that never
    saturates; 8-bit kernels of this CPU would, given symmetric numbers.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_quant_qdq", "0" if fused else "1")
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
