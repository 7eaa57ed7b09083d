"""How near an INT8 graph comes to its float twin: the measures by hand, and what the search makes of hard graphs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from agreement import CLASS_BOXES_MIN, REST, Agreement, Box, UnmeasurableError, ap50, edit_distance, of_output
from calibration import CALIBRATION_PHOTOS, GATE_PHOTOS
from gate import AGREEMENT_MIN, Twin
from onnx_graph import GraphBuilder
from onnxruntime.quantization.calibrate import load_tensors_data
from quantise import METHODS, calibrate, quantise
from repository import filled
from search import Search, end_of
from session import open_session
from shipped import Int8

SIDE = 8
CHANNELS = 16


def boxes(label: str, count: int, score: float = 0.9, shift: float = 0.0) -> list[Box]:
    """Return one box in each of some inputs."""
    return [Box(number, label, score, (shift, 0.0, shift + 10, 10.0)) for number in range(count)]


def test_a_rare_class_that_is_lost_shows_in_the_mean_and_hides_in_one_ranking():
    """1000 persons are found, 40 buses are not: half of the classes are lost, and 4 % of the boxes."""
    truth = boxes("person", 1000) + boxes("bus", 40)
    agreement = ap50(truth, boxes("person", 1000), 0.35)
    assert agreement.value == pytest.approx(0.5)
    assert agreement.detail["one_ranking"] == pytest.approx(1000 / 1040)
    assert agreement.detail["classes"]["bus"] == {"boxes": 40, "ap50": 0.0}


def test_what_sank_just_below_the_threshold_is_found_and_what_moved_away_is_not():
    """A ranking goes on below the threshold; a box that overlaps too little is a false one, and its object lost."""
    truth = boxes("person", 100)
    sunk = boxes("person", 50) + [box for box in boxes("person", 100, score=0.34) if box.input >= 50]
    agreement = ap50(truth, sunk, 0.35)
    assert agreement.value == pytest.approx(1.0)
    assert agreement.detail["at_threshold"] == pytest.approx(0.5)
    assert ap50(truth, boxes("person", 100, shift=4), 0.35).value == 0.0
    assert ap50(truth, truth, 0.35).value == pytest.approx(1.0)


def test_false_boxes_cost_by_their_rank():
    """One false box above all, or one below all, in 100."""
    truth = boxes("person", 100)
    assert ap50(truth, [*truth, Box(200, "person", 0.5, (0, 0, 9, 9))], 0.35).value == pytest.approx(1.0)
    assert ap50(truth, [*truth, Box(200, "person", 0.99, (0, 0, 9, 9))], 0.35).value < 0.995


def test_classes_too_rare_share_an_ap_or_are_left_out_and_nothing_at_all_is_refused():
    """Fewer than CLASS_BOXES_MIN boxes of a class say nothing alone."""
    few = CLASS_BOXES_MIN - 1
    truth = boxes("person", 100) + boxes("bus", few)
    agreement = ap50(truth, boxes("person", 100), 0.35)
    assert agreement.value == pytest.approx(1.0)
    assert agreement.detail["left_out"] == {"bus": few}
    truth += boxes("car", few)
    agreement = ap50(truth, boxes("person", 100) + boxes("car", few), 0.35)
    assert agreement.detail["classes"][REST] == {"boxes": 2 * few, "ap50": pytest.approx(0.5)}
    with pytest.raises(UnmeasurableError, match=f"finds {few} objects"):
        ap50(boxes("bus", few), boxes("bus", few), 0.35)


@pytest.mark.parametrize(
    ("kind", "wanted", "found", "measure", "value"),
    [
        ({"class": {"activation": "none", "labels": ["a", "b"]}}, [[0.9, 0], [0, 1]], [[0.8, 0], [1, 0]], "top1", 0.5),
        ({"binary": {"labels": ["a", "b"]}}, [[0.4], [0.6]], [[0.45], [0.4]], "top1", 0.5),
        ({"number": {}}, [[20.0], [20.0]], [[20.9], [21.1]], "within", 0.5),
        ({"number": {"offset": 100.0}}, [[20.0], [20.0]], [[20.9], [21.1]], "within", 1.0),
        ({"expectation": {"first": 0.0, "step": 10.0}}, [[0, 0, 1.0]], [[0, 0.2, 0.8]], "within", 0.0),
        ({"vector": {"normalize": True}}, [[1.0, 0], [1, 0]], [[1.0, 0], [0, 1]], "cosine", 0.5),
        (
            {"classes": {"activation": "none", "labels": ["a", "b"], "score_threshold": 0.5, "classes_max": 2}},
            [[0.6, 0.6], [0.1, 0.1]],
            [[0.6, 0.4], [0.1, 0.2]],
            "jaccard",
            0.75,
        ),
        (
            {"keypoints": {"names": ["eye", "ear"], "normalized": True}},
            [[0.5, 0.5, 0, 0]],
            [[0.54, 0.5, 0.06, 0]],
            "within",
            0.5,
        ),
    ],
)
def test_each_kind_of_output_has_its_measure(kind, wanted, found, measure, value):
    """As serving makes numbers into values: activations, scales, thresholds."""
    agreement = of_output(kind, np.array(wanted, np.float32), np.array(found, np.float32))
    assert (agreement.measure, agreement.value) == (measure, pytest.approx(value))


def test_text_is_compared_by_its_edits():
    """`kitten` becomes `sitting` by three; a line of which one character of four is wrong agrees by 3/4."""
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3
    charset = ["a", "b"]
    kind = {"ctc_text": {"activation": "none", "blank": 0}}
    steps = np.eye(3, dtype=np.float32)
    wanted, found = steps[[1, 2, 1, 2]].reshape(1, -1), steps[[1, 2, 0, 2]].reshape(1, -1)
    agreement = of_output(kind, wanted, found, charset=charset)
    assert agreement.measure == "edit"
    assert agreement.value == pytest.approx(0.75)


def test_no_photo_both_calibrates_and_is_the_gates():
    """The gate must see what the calibration did not."""
    assert not set(CALIBRATION_PHOTOS) & set(GATE_PHOTOS)


def graph(path: Path, sensitive: bool) -> list[np.ndarray]:
    """Write two 1x1 convolutions, with channels of sizes far apart between them if it is sensitive; return inputs."""
    builder, rng = GraphBuilder(), np.random.default_rng(3)

    def layer(source: str, scales: np.ndarray) -> str:
        weights = rng.standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float32) * scales[:, None, None, None]
        constants = [weights, 0.1 * scales * np.arange(CHANNELS) / CHANNELS]
        names = [builder.constant(constant.astype(np.float32)) for constant in constants]
        return builder.node("Conv", [source, *names], kernel_shape=[1, 1])

    scales = np.geomspace(1, 1e4 if sensitive else 2, CHANNELS)
    first = layer("input", scales)
    middle = builder.node("Mul", [first, builder.constant((1 / scales).astype(np.float32)[None, :, None, None])])
    last = layer(middle, np.ones(CHANNELS))
    pooled = builder.node("GlobalAveragePool", [last])
    builder.save(path, {"input": [1, CHANNELS, SIDE, SIDE]}, {pooled: [1, CHANNELS, 1, 1]})
    images = [rng.standard_normal((1, CHANNELS, SIDE, SIDE)) + rng.standard_normal() for _ in range(40)]
    return [image.astype(np.float32) for image in images]


def ranges(folder: Path, source: Path, tensors: list[np.ndarray], method: str, target: str = "cpu") -> Path:
    """Calibrate."""
    path = folder / f"{method}-{target}.json"
    calibrate(source, path, tensors, method, target)
    return path


def test_each_calibration_sees_an_outlier_in_its_own_way(tmp_path):
    """Min-max takes the outlier for the range's end; percentile and entropy cut it off."""
    source = tmp_path / "float.onnx"
    tensors = [np.abs(tensor) for tensor in graph(source, sensitive=False)]
    tensors[7][0, 0, 0, 0] = 1e3
    highest = {}
    for method in METHODS:
        seen = load_tensors_data(ranges(tmp_path, source, tensors, method))
        highest[method] = float(np.max(seen["input"].range_value[1]))
    assert highest["minmax"] == pytest.approx(1e3)
    assert highest["percentile"] < 100
    assert highest["entropy"] < 0.9e3


def test_a_graph_for_tensorrt_is_symmetric_and_is_run_without_saturating(tmp_path):
    """All zero points are zero, of s8, and biases float; computed without 8-bit kernels it is near its float twin."""
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    tensors = graph(source, sensitive=False)
    quantise(source, target, ranges(tmp_path, source, tensors, "minmax", "tensorrt"), Int8(), "tensorrt")
    model = onnx.load(target).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.initializer}
    zeroes = [constants[node.input[2]] for node in model.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert zeroes
    assert all((zero == 0).all() and zero.dtype == np.int8 for zero in zeroes)
    sessions = (open_session(path, fused=False) for path in (source, target))
    (wanted,), (found,) = (session.run(None, {"input": tensors[0]}) for session in sessions)
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


def test_the_search_leaves_float_what_it_must_and_nothing_where_it_need_not(tmp_path):
    """A plain graph becomes INT8 whole; of one with channels far apart layers stay float, and it passes too."""
    for sensitive in (False, True):
        folder = tmp_path / str(sensitive)
        folder.mkdir()
        source = folder / "float.onnx"
        tensors = graph(source, sensitive)
        manifest = {"spec": {"width": SIDE, "height": SIDE}}
        twin, calibration = Twin(manifest, source, tensors[10:]), Twin(manifest, source, tensors[:10])
        said = []
        found = Search(twin, calibration, Int8(), "cpu", folder, said.append).best()
        assert found.gate.agreement >= AGREEMENT_MIN
        assert bool(found.gate.float_layers) == sensitive
        assert (folder / "model.onnx").exists()
        gates = [trial for trial in found.trials if trial["inputs"] == "gate"]
        assert gates[-1]["passed"]
        assert gates[-1]["agreement"] == found.gate.agreement
        assert len(found.trials) >= len(METHODS) + 1
        assert said


def test_layers_are_left_float_from_the_end_that_came_nearest_at_the_gate(tmp_path):
    """Not from the one that the few inputs of the calibration prefer; layers that are float there are not tried."""
    source = tmp_path / "float.onnx"
    tensors = graph(source, sensitive=True)
    manifest = {"spec": {"width": SIDE, "height": SIDE}}
    twin = Twin(manifest, source, tensors[:4])
    agreements = {"nothing": 0.5, "after the last layers": 0.6, "last layers": 0.9}

    class Judged(Search):
        def _gate(self, int8: Int8):
            gate = super()._gate(int8)
            value = 1.0 if gate.is_float else agreements[end_of(int8)]
            return replace(gate, outputs={"all": Agreement("cosine", value)})

    found = Judged(twin, twin, Int8(), "cpu", tmp_path, lambda _: None).best()
    assert end_of(found.int8) == "last layers"
    assert len(found.int8.float_layers) == 1
    alone = [trial["float_layers"] for trial in found.trials if trial["float_layers"] and trial["inputs"] != "gate"]
    assert alone == [list(found.int8.float_layers)]


def test_a_manifests_top_keys_are_set_and_nothing_else(tmp_path):
    """Keys of the same name in sections stay; what cannot be set is an error."""
    text = "name = 'a'\nversion = 3\n\n[input]\nname = 'kept'\n"
    wanted = 'name = "q\\"\\\\"\nversion = 1\n\n[input]\nname = \'kept\'\n'
    assert filled(text, {"name": 'q"\\', "version": 1}) == wanted
    with pytest.raises(ValueError, match="sha256"):
        filled(text, {"sha256": "0"})
