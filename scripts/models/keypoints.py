"""Append the choice of keypoints to PoseNet's graph, for crops of one person.

PoseNet puts out, for each of 17 keypoints and each cell of a coarse grid, a logit that the keypoint is
there (the heatmap), and how far it lies from the cell's pixel (the offsets: first all y, then all x).
Of one person each keypoint is where its logit is highest (Papandreou et al., "Towards Accurate
Multi-person Pose Estimation in the Wild", 2017, section 3.1, without the voting). Cell (row, column)
stands at pixel (row, column) * stride, whose centre is half a pixel further.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KEYPOINTS = 17
PIXEL_CENTRE = 0.5


def append_keypoints(path: Path, heatmaps: str, offsets: str, stride: int) -> None:
    """Rewrite the model so that it puts out `keypoints` alone: N x 17 x (x, y, logit), in pixels of its input.

    `heatmaps` and `offsets` name its outputs, N x rows x columns x 17 and x 34. Of equal logits the first
    cell counts, row by row.
    """
    model = onnx.load(path)
    graph = model.graph
    sizes = {output.name: output.type.tensor_type.shape.dim for output in graph.output}
    rows, columns, channels = (size.dim_value for size in sizes[heatmaps][1:])
    wanted = [rows, columns, 2 * KEYPOINTS]
    if channels != KEYPOINTS or [size.dim_value for size in sizes[offsets][1:]] != wanted:
        raise ValueError(f"{path}: {heatmaps} and {offsets} are no maps of {KEYPOINTS} keypoints: not PoseNet?")

    def constant(name: str, values) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(values), f"keypoints/{name}"))
        return f"keypoints/{name}"

    def node(operator: str, inputs: list[str], outputs: list[str], **attributes) -> None:
        graph.node.append(helper.make_node(operator, inputs, outputs, name=f"keypoints/{outputs[0]}", **attributes))

    node("Reshape", [heatmaps, constant("heat_shape", [0, rows * columns, KEYPOINTS])], ["heat"])
    node("Reshape", [offsets, constant("offset_shape", [0, rows * columns, 2 * KEYPOINTS])], ["shifts"])
    node("Split", ["shifts", constant("halves", [KEYPOINTS, KEYPOINTS])], ["shifts_y", "shifts_x"], axis=2)
    node("ArgMax", ["heat"], ["best"], axis=1, keepdims=1)
    for values, chosen in (("heat", "logit"), ("shifts_y", "shift_y"), ("shifts_x", "shift_x")):
        node("GatherElements", [values, "best"], [chosen], axis=1)
    node("Div", ["best", constant("columns", np.int64(columns))], ["row"])
    node("Mod", ["best", "keypoints/columns"], ["column"])
    constant("stride", np.float32(stride))
    constant("centre", np.float32(PIXEL_CENTRE))
    for cell, shift, place in (("column", "shift_x", "x"), ("row", "shift_y", "y")):
        node("Cast", [cell], [f"{cell}_f32"], to=TensorProto.FLOAT)
        node("Mul", [f"{cell}_f32", "keypoints/stride"], [f"{cell}_pixel"])
        node("Add", [f"{cell}_pixel", shift], [f"{place}_corner"])
        node("Add", [f"{place}_corner", "keypoints/centre"], [place])
    node("Concat", ["x", "y", "logit"], ["planes"], axis=1)
    node("Transpose", ["planes"], ["keypoints"], perm=(0, 2, 1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["N", KEYPOINTS, 3]))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
