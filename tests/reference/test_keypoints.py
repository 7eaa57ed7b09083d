"""PoseNet's choice of keypoints, which the converter appends, against loops over its maps in plain numpy."""

import numpy as np
import onnx
import pytest
from attributes import AttributeModel
from images import Placement, crop_box, fitted, load_photo, shown
from keypoints import append_keypoints
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

ROWS, COLUMNS, STRIDE = 5, 7, 16


def chosen(heatmaps: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return x, y and logit of each keypoint of one sample: maps are rows x columns x 17 and x 34."""
    points = []
    for keypoint in range(17):
        best = (-np.inf, 0, 0)
        for row in range(heatmaps.shape[0]):
            for column in range(heatmaps.shape[1]):
                if heatmaps[row, column, keypoint] > best[0]:
                    best = (heatmaps[row, column, keypoint], row, column)
        logit, row, column = best
        down, across = offsets[row, column, keypoint], offsets[row, column, 17 + keypoint]
        points.append((column * STRIDE + across + 0.5, row * STRIDE + down + 0.5, logit))
    return np.array(points)


def graph_of_maps(path, channels: int = 34):
    """Write a graph whose outputs are its inputs, in PoseNet's shapes."""
    shapes = {"heat_in": 17, "offset_in": channels}
    info = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", ROWS, COLUMNS, count])
        for name, count in (*shapes.items(), ("heatmaps", 17), ("offsets", channels))
    }
    nodes = [
        helper.make_node("Identity", ["heat_in"], ["heatmaps"]),
        helper.make_node("Identity", ["offset_in"], ["offsets"]),
    ]
    graph = helper.make_graph(nodes, "maps", [info[n] for n in shapes], [info["heatmaps"], info["offsets"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("batch", [1, 3])
def test_the_appended_choice_is_that_of_loops_over_the_maps(tmp_path, batch):
    """Drawn maps, half of them with many equal logits."""
    path = graph_of_maps(tmp_path / "maps.onnx")
    append_keypoints(path, "heatmaps", "offsets", STRIDE)
    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(batch)
    for draw in range(20):
        heat = rng.normal(0, 4, (batch, ROWS, COLUMNS, 17)).astype(np.float32)
        if draw % 2:
            heat = np.round(heat / 4)
        offset = rng.normal(0, 9, (batch, ROWS, COLUMNS, 34)).astype(np.float32)
        (points,) = session.run(None, {"heat_in": heat, "offset_in": offset})
        assert points.shape == (batch, 17, 3)
        for sample in range(batch):
            assert np.abs(points[sample] - chosen(heat[sample], offset[sample])).max() <= 1e-5


def test_maps_of_another_model_are_refused(tmp_path):
    """Offsets of one axis alone are no PoseNet's."""
    path = graph_of_maps(tmp_path / "maps.onnx", channels=17)
    with pytest.raises(ValueError, match="not PoseNet"):
        append_keypoints(path, "heatmaps", "offsets", STRIDE)


def test_posenet_says_of_each_of_a_batch_what_it_says_of_it_alone(models, photos):
    """Three crops of one photo, to the last bit."""
    model = AttributeModel.of_repository(models, "posenet385")
    frame, spec = load_photo(photos / "zidane.jpg"), model.manifest["spec"]
    boxes = [(120, 200, 1120, 720), (740, 40, 1120, 710), (0, 0, 300, 700)]
    crops = np.concatenate([fitted(frame, crop_box(box, 0.05, spec), spec)[0] for box in boxes])
    (together,) = model.session.run(["keypoints"], {"image": crops})
    for crop, points in zip(crops, together, strict=True):
        (alone,) = model.session.run(["keypoints"], {"image": crop[None]})
        assert (alone[0] == points).all()
    assert not (together[0] == together[1]).all()


def test_a_tensor_shows_its_crop_and_its_padding():
    """A crop of 10 x 20 in a letterbox of 40 x 40: ten pixels of padding on either side, two to one of the frame."""
    spec = {"width": 40, "height": 40}
    assert shown((100, 50, 110, 70), spec, Placement((2.0, 2.0), (10, 0))) == (95, 50, 115, 70)
