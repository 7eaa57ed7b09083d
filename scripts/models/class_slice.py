"""Keep only some of NanoDet's 80 COCO classes, exactly: the others' output channels are cut off.

A NanoDet head puts out, for each stride, one tensor of 80 class scores and 4 x 11 box bins.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

CLASSES = 80
BOX_CHANNELS = 4 * 11
HEAD_CHANNELS = CLASSES + BOX_CHANNELS


def keep_classes(path: Path, classes: list[int]) -> None:
    """Rewrite the model so that it scores only `classes` (COCO numbers, in that order)."""
    model = onnx.load(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    channels = [*classes, *range(CLASSES, HEAD_CHANNELS)]

    def read(name: str) -> np.ndarray:
        return numpy_helper.to_array(constants[name])

    def write(name: str, values: np.ndarray) -> None:
        constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))

    heads = 0
    for node in model.graph.node:
        match node.op_type:
            case "Conv" if read(node.input[1]).shape[0] == HEAD_CHANNELS:
                heads += 1
                write(node.input[1], read(node.input[1])[channels])
                if len(node.input) > 2:
                    write(node.input[2], read(node.input[2])[channels])
            case "Add":
                # The bias of a head may still be an addition of its own.
                for name in node.input:
                    if name in constants and read(name).shape[1:2] == (HEAD_CHANNELS,):
                        write(name, read(name)[:, channels])
            case "Split" if read(node.input[1]).tolist() == [CLASSES, BOX_CHANNELS]:
                write(node.input[1], np.array([len(classes), BOX_CHANNELS], np.int64))
            case "Reshape":
                shape = read(node.input[1]).copy()
                if CLASSES in shape:
                    shape[shape == CLASSES] = len(classes)
                    write(node.input[1], shape)
    if heads == 0:
        raise ValueError(f"{path}: no convolution with {HEAD_CHANNELS} channels: not NanoDet?")
    for output in model.graph.output:
        size = output.type.tensor_type.shape.dim[-1]
        if size.dim_value == CLASSES:
            size.dim_value = len(classes)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
