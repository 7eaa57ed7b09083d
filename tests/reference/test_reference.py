"""The reference itself: its sampling against Pillow's, NMS and AP by hand, its AP50 on photos."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ap50 import ap50, average_precision
from attributes import attribute_value
from detector import Detector, suppress
from images import Placement, crop_tensor, frame_tensor, load_photo, sample
from PIL import Image

LABELS = json.loads((Path(__file__).parents[1] / "data" / "person_labels.json").read_text())
# AP counts unsure detections too.
AP_SCORE_THRESHOLD = 0.05

RAW = {
    "color": "rgb",
    "dtype": "f32",
    "resize": "stretch",
    "pad": 0,
    "scale": 1.0,
    "mean": [0.0] * 3,
    "std": [1.0] * 3,
}


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Return a frame of noise, where any shift shows."""
    return np.random.default_rng(7).integers(0, 256, (37, 53, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(20, 30), (53, 37), (90, 80)])
def test_sampling_equals_pillows_two_tap_bilinear(noise, size):
    """Inside the frame's edge, which Pillow treats otherwise, both agree to a grey level."""
    width, height = size
    box = (5.25, 4.5, 40.75, 30.0)
    ours = sample(noise, box, width, height)
    theirs = Image.fromarray(noise).transform(size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    assert np.abs(ours - np.asarray(theirs, np.float32)).max() <= 1


def test_sampling_outside_the_frame_repeats_its_edge(noise):
    """A crop over the corner is filled with the corner's pixel."""
    assert (sample(noise, (-30, -30, -10, -10), 4, 4) == noise[0, 0]).all()


def test_padding_lies_where_the_manifest_says(noise):
    """A wide frame gets rows of padding: half above, or all below."""
    spec = RAW | {"width": 53, "height": 61, "pad": [9.0, 8.0, 7.0]}
    centred, placement = frame_tensor(noise, spec | {"resize": "letterbox"})
    assert placement == Placement((1.0, 1.0), (0, 12))
    assert (centred[0, :, 11, 0] == [9, 8, 7]).all()
    assert (centred[0, :, 12:49].transpose(1, 2, 0) == noise).all()
    below, placement = frame_tensor(noise, spec | {"resize": "pad_right_bottom"})
    assert placement == Placement((1.0, 1.0), (0, 0))
    assert (below[0, :, :37].transpose(1, 2, 0) == noise).all()
    assert (below[0, 2, 37:] == 7).all()


def test_a_square_crop_has_the_longer_side_and_its_margin(noise):
    """A box of 10 x 20 with a margin of 0.1 is cropped to 24 x 24 about its centre."""
    spec = RAW | {"width": 24, "height": 24, "crop": "square"}
    tensor = crop_tensor(noise, (20, 8, 30, 28), 0.1, spec)
    assert np.abs(tensor[0].transpose(1, 2, 0) - noise[6:30, 13:37]).max() < 1e-2


def test_bgr_reverses_the_channels_and_mean_and_std_are_in_its_order(noise):
    """Mean and deviation belong to the tensor's channels."""
    spec = RAW | {"width": 53, "height": 37, "color": "bgr"}
    spec |= {"mean": [1.0, 2.0, 3.0], "std": [2.0, 4.0, 8.0]}
    tensor, _ = frame_tensor(noise, spec)
    assert np.allclose(tensor[0, 0], (noise[:, :, 2] - 1.0) / 2)
    assert np.allclose(tensor[0, 2], (noise[:, :, 0] - 3.0) / 8)


def test_nms_drops_overlaps_of_the_same_class_only():
    """Of two overlapping boxes of one class the better stays; another class is no rival."""
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [20, 20, 30, 30]], float)
    assert suppress(boxes, np.array([0, 0, 1, 0]), 0.6) == [0, 2, 3]


def test_average_precision_by_hand():
    """Hit, miss, hit of two objects: precision 1 up to half the recall, then 2/3."""
    truth = {"a": [[0, 0, 10, 10], [20, 20, 30, 30]]}
    detections = [
        (0.9, "a", [0, 0, 10, 10]),
        (0.8, "a", [50, 50, 60, 60]),
        (0.7, "a", [20, 20, 30, 31]),
    ]
    assert average_precision(truth, detections) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_second_detection_of_an_object_counts_as_a_miss():
    """Each labelled box is found once."""
    truth = {"a": [[0, 0, 10, 10]], "b": [[0, 0, 10, 10]]}
    detections = [(0.9, "a", [0, 0, 10, 10]), (0.8, "a", [0, 0, 10, 9]), (0.7, "b", [0, 0, 9, 10])]
    assert average_precision(truth, detections) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_attribute_kinds():
    """Each kind of the manifest gives its value."""
    numbers = np.array([0.0, 1.0, 3.0], np.float32)
    options = {"activation": "softmax", "labels": ["a", "b", "c"]}
    value = attribute_value({"class": options}, numbers)
    assert value["label"] == "c"
    assert value["score"] == pytest.approx(0.8438, abs=1e-3)
    labels = {"labels": ["female", "male"]}
    low = attribute_value({"binary": labels}, np.array([0.25], np.float32))
    assert low == {"label": "female", "score": 0.75}
    assert attribute_value({"number": {}}, numbers[2:]) == {"number": 3.0}
    steps = {"expectation": {"first": 10.0, "step": 2.0}}
    spread = np.array([0.5, 0.5], np.float32)
    assert attribute_value(steps, spread) == {"number": 11.0}
    long = np.array([3.0, 4.0], np.float32)
    unit = attribute_value({"vector": {"normalize": True}}, long)
    assert unit["vector"] == pytest.approx([0.6, 0.8])


def test_photos_are_those_that_were_labelled(photos):
    """The labels belong to these very bytes."""
    for entry in LABELS:
        found = hashlib.sha256((photos / entry["file"]).read_bytes()).hexdigest()
        assert found == entry["sha256"], entry["file"]


@pytest.mark.parametrize(("model", "at_least"), [("nanodet416-4c-fp32", 0.88), ("nanodet416-4c-int8", 0.87)])
def test_people_are_found_as_well_as_measured(models, photos, tmp_path, model, at_least):
    """AP50 on 12 photos with 36 people, through the command line."""
    out = tmp_path / "results.json"
    script = Path(__file__).with_name("reference.py")
    command = [sys.executable, script, "--models", models, "--detector", model, "--out", out]
    command += ["--score-threshold", str(AP_SCORE_THRESHOLD)]
    subprocess.run([*command, *(photos / entry["file"] for entry in LABELS)], check=True)
    value = ap50(LABELS, json.loads(out.read_text()), "person")
    print(f"{model}: AP50 {value:.4f}")
    assert value >= at_least


def test_faces_and_their_attributes(models, photos, tmp_path):
    """Every attribute model says something sensible of the faces in one photo."""
    out = tmp_path / "results.json"
    names = "face-age-gender,faceres,face-expression,face-resnet34-descriptor"
    script = Path(__file__).with_name("reference.py")
    command = [sys.executable, script, "--models", models, "--detector", "tiny-face-416"]
    command += ["--attributes", names, "--out", out, photos / "sample3.jpg"]
    subprocess.run(command, check=True)
    (photo,) = json.loads(out.read_text())["photos"]
    assert len(photo["detections"]) == 3
    for detection in photo["detections"]:
        values = {(a["model"], a["name"]): a for a in detection["attributes"]}
        assert values["face-age-gender", "gender"]["label"] == "female"
        assert values["faceres", "gender"]["label"] == "female"
        assert 15 < values["face-age-gender", "age"]["number"] < 45
        assert 15 < values["faceres", "age"]["number"] < 45
        for vector in (values["faceres", "embedding"], values["face-resnet34-descriptor", "descriptor"]):
            assert np.linalg.norm(vector["vector"]) == pytest.approx(1, abs=1e-5)


def test_exif_orientation_is_applied(tmp_path):
    """A photo taken with the camera on its side comes out upright."""
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_photo(tmp_path / "turned.jpg").shape == (40, 20, 3)


def test_random_detector_runs_by_its_manifest(models, photos):
    """Its boxes mean nothing, but they lie within the frame and within the manifest's bounds."""
    detector = Detector.of_repository(models, "resnet18-4class-416-random-int8")
    frame = load_photo(photos / "bus.jpg")
    found = detector.detect(frame)
    assert len(found) <= detector.spec["candidates_max"]
    for detection in found:
        x1, y1, x2, y2 = detection.box
        assert 0 <= x1 <= x2 <= frame.shape[1]
        assert 0 <= y1 <= y2 <= frame.shape[0]
