"""Masks of a real server as numpy arrays: those of painted objects."""

import json
import pathlib
import subprocess
import sys

import framepipe
import numpy as np
from conftest import ROOT, running
from PIL import Image

DETECTOR = "maskrcnn-resnet18-fpn"


def test_a_mask_has_the_pixels_of_its_object_and_of_no_other(tmp_path: pathlib.Path):
    """An object's pixels are those of its colour; of the box's others nearly none are."""
    program = ROOT / "tests" / "reference" / "painted.py"
    subprocess.run([sys.executable, program, "--out", tmp_path, "--only", DETECTOR], check=True)
    painted = json.loads((tmp_path / "painted.json").read_text())[DETECTOR]
    image = np.asarray(Image.open(tmp_path / "painted.png"))
    with running(DETECTOR, tmp_path / "models") as (address, inbox), framepipe.Client(address, inbox=inbox) as client:
        client.push([tmp_path / "painted.png"])
        (result,) = client.results(until_drained=True)
    assert (len(result.detections), result.masks_dropped) == (len(painted), 0)
    for found in result.detections:
        mask = found.mask
        part = image[mask.y : mask.y + mask.height, mask.x : mask.x + mask.width, found.class_index]
        pixels = mask.to_numpy()
        assert pixels.shape == part.shape
        assert 0.02 < 1 - pixels.mean() < 0.3, "a corner is not painted"
        assert ((part == 255) == pixels).mean() > 0.9, found
