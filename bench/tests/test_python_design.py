"""The paper's design finds what framepipe's reference implementation finds, and survives what it should."""

from pathlib import Path

import framepipe
import numpy as np
import pytest
from attributes import AttributeModel
from conftest import PATIENCE_S, ROOT, running
from detector import Detection, Detector, iou
from images import load_photo

MODELS = ROOT / "models"
PHOTOS = sorted((ROOT / "photos").glob("*.jpg"))
FACES = ["face-resnet34-descriptor", "face-age-gender", "face-expression", "faceres"]
# OpenCV samples in fixed point, so that pixels differ by a level; see the tests of the product for what that does.
IOU_LEAST = 0.95
SCORE_TOLERANCE = 0.03
UNPAIRED_MAX = 1
"""A detector of random weights is as sure of the candidates beyond its limit as of those within: one may be another."""


def results_of(client: framepipe.Client, photos: list[Path]) -> dict[str, framepipe.FrameResult]:
    """Push photos in one batch and return their results."""
    client.push(photos, wait=PATIENCE_S)
    return {result.name: result for result in client.results(until_drained=True, timeout=PATIENCE_S)}


def corners(found: framepipe.Detection) -> np.ndarray:
    """Return a detection's box."""
    return np.array(found.box, np.float64)


Pairs = list[tuple[framepipe.Detection, Detection]]


def paired(found: tuple, expected: list[Detection]) -> tuple[Pairs, list[Detection], list[framepipe.Detection]]:
    """Pair what both found, with equal scores; return also what only the reference has, and what only the other has."""
    pairs, missing, left = [], [], list(found)
    for one in expected:
        overlaps = [
            iou(np.array(one.box), corners(other)[None])[0] if other.label == one.label else 0.0 for other in left
        ]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best >= 0 and overlaps[best] >= IOU_LEAST:
            other = left.pop(best)
            assert other.score == pytest.approx(one.score, abs=SCORE_TOLERANCE)
            pairs.append((other, one))
        else:
            missing.append(one)
    return pairs, missing, left


def partners(found: tuple, expected: list[Detection], threshold: float) -> Pairs:
    """Pair what both found; fail where one is sure of what the other has not found."""
    pairs, missing, left = paired(found, expected)
    sure = [one for one in (*missing, *left) if one.score >= threshold + SCORE_TOLERANCE]
    assert not sure, f"found by one alone: {sure}"
    return pairs


@pytest.mark.parametrize("name", ["nanodet416-4c-fp32", "tiny-face-416", "resnet18-4class-416-random-fp32"])
def test_boxes_are_the_references(tmp_path: Path, variant: str, name: str):
    """Of each family of heads that the workloads have."""
    reference = Detector.of_repository(MODELS, name)
    with running(tmp_path, "--variant", variant, "--detector", name) as (client, _):
        results = results_of(client, PHOTOS)
    pairs = 0
    for photo in PHOTOS:
        frame, result = load_photo(photo), results[photo.name]
        assert result.error is None
        expected = reference.detect(frame)
        if "random" in name:
            both, missing, left = paired(result.detections, expected)
            assert max(len(missing), len(left)) <= UNPAIRED_MAX, (missing, left)
        else:
            both = partners(result.detections, expected, reference.spec["score_threshold"])
        pairs += len(both)
    assert pairs >= len(PHOTOS)


def test_attributes_are_the_references(tmp_path: Path, variant: str):
    """Of the four models of faces, on what the reference's detector finds too."""
    detector = Detector.of_repository(MODELS, "tiny-face-416")
    models = [AttributeModel.of_repository(MODELS, name) for name in FACES]
    options = ("--variant", variant, "--detector", "tiny-face-416", "--attributes", ",".join(FACES))
    with running(tmp_path, *options) as (client, _):
        results = results_of(client, PHOTOS)
    compared = 0
    for photo in PHOTOS:
        frame = load_photo(photo)
        for found, expected in partners(
            results[photo.name].detections, detector.detect(frame), detector.spec["score_threshold"]
        ):
            described = [one for model in models for one in model.describe(frame, expected)]
            named = {(one.model, name): one for name, one in found.attributes.items()}
            for value in described:
                if (value["model"], value["name"]) in named:  # two models tell the age: the client keeps one of a name
                    compared += agree(named[value["model"], value["name"]], value)
    assert compared >= 100


def agree(attribute: framepipe.Attribute, expected: dict) -> bool:
    """Check one attribute: vectors point the same way, sure labels are equal, ages are within three years.

    Return whether there was anything to check: labels that the reference is not sure of may be others.
    """
    if "vector" in expected:
        assert np.dot(attribute.value, expected["vector"]) > 0.97
    elif "number" in expected:
        assert attribute.value == pytest.approx(expected["number"], abs=3)
    elif expected["score"] > 0.7:
        assert attribute.value == expected["label"]
        assert attribute.score == pytest.approx(expected["score"], abs=0.2)
    else:
        return False
    return True


def test_no_op_models_answer_every_frame(tmp_path: Path, variant: str):
    """A batch of raw frames comes back, in groups."""
    frames = np.random.default_rng(1).integers(0, 256, (8, 416, 416, 3), np.uint8)
    with running(tmp_path, "--variant", variant, "--group", "4") as (client, _):
        for _ in range(3):
            client.push([(f"{place}", frame) for place, frame in enumerate(frames)], wait=PATIENCE_S)
        results = list(client.results(until_drained=True, timeout=PATIENCE_S))
    assert sorted(result.frame for result in results) == list(range(1, 25))
    assert all(result.error is None and not result.detections for result in results)


def test_a_broken_image_fails_alone(tmp_path: Path, variant: str):
    """Its neighbours in the batch have results."""
    with running(tmp_path, "--variant", variant, "--detector", "nanodet416-4c-int8", "--group", "4") as (client, _):
        client.push([PHOTOS[0], ("broken", b"\xff\xd8 no image"), PHOTOS[1]], wait=PATIENCE_S)
        results = {result.name: result for result in client.results(until_drained=True, timeout=PATIENCE_S)}
    assert "OpenCV cannot decode" in results["broken"].error.message
    assert [results[photo.name].error for photo in PHOTOS[:2]] == [None, None]


def test_half_size_decoding_finds_the_large_objects(tmp_path: Path):
    """Boxes are in pixels of the whole image."""
    options = ("--variant", "shm", "--detector", "nanodet416-4c-fp32", "--half")
    with running(tmp_path, *options) as (client, _):
        results = results_of(client, PHOTOS)
    for photo in PHOTOS:
        frame = load_photo(photo)
        assert results[photo.name].error is None
        sure = [one for one in Detector.of_repository(MODELS, "nanodet416-4c-fp32").detect(frame) if one.score > 0.7]
        for one in sure:
            assert max(iou(np.array(one.box), np.array([corners(x) for x in results[photo.name].detections]))) > 0.8
