"""A small builder of ONNX graphs: constants are shared, node outputs get unique names."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 8
# Operators with weights, which are what quantisation is about.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class GraphBuilder:
    """Collects nodes and constants; `save` writes a checked model."""

    def __init__(self, opset: int = OPSET):
        """Start with an empty graph."""
        self._opset = opset
        self._nodes = []
        self._constants = {}
        self._names = 0

    def _unique(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}_{self._names}"

    def constant(self, values: np.ndarray) -> str:
        """Return the name of a constant tensor with these values."""
        values = np.require(values, requirements="C")
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(values, self._unique("constant"))
        return self._constants[key].name

    def integers(self, values) -> str:
        """Return the name of a constant int64 vector (shapes, axes, pads)."""
        return self.constant(np.asarray(values, np.int64))

    def node(self, operator: str, inputs: list[str], **attributes) -> str:
        """Add a node with one output; return the output's name."""
        return self.node_with_outputs(operator, inputs, 1, **attributes)[0]

    def node_with_outputs(self, operator: str, inputs: list[str], count: int, **attributes):
        """Add a node with `count` outputs; return their names."""
        outputs = [self._unique(operator.lower()) for _ in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    def rename(self, name: str, wanted: str) -> str:
        """Give a tensor the name under which the graph puts it out."""
        self._nodes.append(helper.make_node("Identity", [name], [wanted], name=f"name_{wanted}"))
        return wanted

    def save(
        self,
        path: Path,
        inputs: dict[str, list],
        outputs: dict[str, list],
        integers: tuple = (),
        levels: tuple = (),
    ) -> None:
        """Write the model; `inputs` and `outputs` map names to shapes (a string is a free size).

        All are float32 but those named in `integers`, which are int64, and in `levels`, which are uint8.
        """
        types = dict.fromkeys(integers, TensorProto.INT64) | dict.fromkeys(levels, TensorProto.UINT8)

        def tensors(named: dict[str, list]) -> list:
            of_type = helper.make_tensor_value_info
            return [of_type(name, types.get(name, TensorProto.FLOAT), shape) for name, shape in named.items()]

        graph = helper.make_graph(
            self._nodes,
            path.stem,
            tensors(inputs),
            tensors(outputs),
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self._opset)],
            producer_name="framepipe scripts/models",
        )
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding of one axis: (before, after)."""
    needed = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return needed // 2, needed - needed // 2


def fold_constants(path: Path) -> None:
    """Fold pads, scales and biases into their convolutions, in place, exactly.

    ONNX Runtime's basic optimisations do it; the result is still plain ONNX. Quantisation needs it:
    a bias in an `Add` of its own would be rounded to 8 bits.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    folded = path.with_suffix(".folded.onnx")
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    folded.replace(path)
