"""Makes framepipe's no-op detector, which looks at two pixels of a frame and finds nothing: noop_model.py FOLDER."""

import hashlib
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

SIDE = 416
MANIFEST = """\
name = "noop-416"
version = 1
file = "model.onnx"
sha256 = "{sha256}"
source = "made by bench/harness/noop_model.py"
licence = "Apache-2.0"
description = "A detector that finds nothing, to measure all but the model"

[input]
tensor = "frame"
graph = [
    {{ op = "decode" }},
    {{ op = "orient" }},
    {{ op = "resize", fit = "stretch", width = 416, height = 416 }},
    {{ op = "layout", order = "nhwc" }},
    {{ op = "cast", dtype = "u8" }},
]

[detector]
labels = ["nothing"]
score_threshold = 0.5
iou_threshold = 0.6
candidates_max = 1
detections_max = 1

[detector.head.yolov3.exported]
output = "rows"
strides = [416]
anchors_per_cell = 1
"""


def graph() -> onnx.ModelProto:
    """Return frames [N, 416, 416, 3] u8 to rows [N, 1, 6] of zeroes."""
    constants = {
        "starts": [0, 0],
        "ends": [1, 2],
        "axes": [1, 2],
        "shape": [0, 1, 6],
    }
    nodes = [
        helper.make_node("Slice", ["frame", "starts", "ends", "axes"], ["pixels"]),
        helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["numbers", "shape"], ["row"]),
        helper.make_node("Mul", ["row", "nothing"], ["rows"]),
    ]
    weights = [helper.make_tensor(name, TensorProto.INT64, [len(value)], value) for name, value in constants.items()]
    weights.append(helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0]))
    made = helper.make_graph(
        nodes,
        "noop",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", 1, 6])],
        weights,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Write the model and its manifest."""
    folder = Path(sys.argv[1]) / "noop-416" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    model = graph()
    onnx.checker.check_model(model)
    encoded = model.SerializeToString()
    (folder / "model.onnx").write_bytes(encoded)
    (folder / "manifest.toml").write_text(MANIFEST.format(sha256=hashlib.sha256(encoded).hexdigest()))


if __name__ == "__main__":
    main()
