"""What the shipped models are calibrated and measured on: fetched photos and a fetched video's frames.

Photos and crops go through the preprocessing that the manifest states. Calibration and gate share no
photo, and the video's scene is the gate's alone. There are few photos, so each is used in variants:
mirrored, at several brightnesses, cut. In the video's frames no face is large enough for the face
detector, so that faces are those of the photos.
"""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from paths import FLOAT_GRAPHS, FRAMES, MANIFESTS, PHOTOS, use_reference
from shipped import SHIPPED

use_reference()

from detector import Detector  # noqa: E402
from images import crop_tensor, frame_tensor, load_photo  # noqa: E402
from manifest import read_manifest as read  # noqa: E402

# Fetched without --tests, so that everyone's INT8 graphs are made and measured on the same photos.
CALIBRATION_PHOTOS = ["zidane.jpg", "sample1.jpg", "sample2.jpg", "sample3.jpg"]
GATE_PHOTOS = ["bus.jpg", "basketball1.png", "sample4.jpg", "sample5.jpg", "sample6.jpg"]
FACE_DETECTOR = "tiny-face-416"


class Variant(NamedTuple):
    """One way to look at a photo, and to crop a face in it: `shift` is in parts of its side.

    Of a photo that is no face's, `cut` is what is left out at the left and the top, in parts of its sides.
    """

    brightness: float
    mirrored: bool
    margin: float
    shift: float
    cut: float = 0.0


CALIBRATION_VARIANTS = [
    Variant(brightness=0.6, mirrored=False, margin=0.05, shift=0.0),
    Variant(brightness=1.0, mirrored=False, margin=0.15, shift=0.0),
    Variant(brightness=1.0, mirrored=True, margin=0.3, shift=0.0),
    Variant(brightness=1.3, mirrored=True, margin=0.15, shift=0.08),
]
# Whole photos of the gate, beside the video's frames.
GATE_PHOTO_VARIANTS = [
    Variant(brightness=1.0, mirrored=False, margin=0.0, shift=0.0),
    Variant(brightness=0.8, mirrored=True, margin=0.0, shift=0.0),
    Variant(brightness=1.15, mirrored=False, margin=0.0, shift=0.0, cut=0.1),
    Variant(brightness=0.9, mirrored=True, margin=0.0, shift=0.0, cut=0.2),
]
# The gate's faces: as many are taken as its count of inputs needs.
GATE_FACE_VARIANTS = [
    Variant(brightness, mirrored, margin, shift)
    for shift in (0.05, -0.06, 0.02, -0.03)
    for margin in (0.1, 0.2)
    for brightness in (0.8, 1.0, 1.15, 0.9)
    for mirrored in (True, False)
]


def read_manifest(name: str) -> dict:
    """Return a manifest of config/models."""
    return read(MANIFESTS / f"{name}.toml")


def _look(photo: np.ndarray, variant: Variant) -> np.ndarray:
    if variant.mirrored:
        photo = photo[:, ::-1]
    if variant.brightness != 1.0:
        levels = np.clip(np.arange(256) * variant.brightness, 0, 255).astype(np.uint8)
        photo = levels[photo]
    return photo


def frames(photos: list[Path], variants: list[Variant]) -> Iterator[tuple[np.ndarray, Variant]]:
    """Yield each photo in a variant, then each in the next one."""
    for variant in variants:
        for photo in photos:
            yield _look(load_photo(photo), variant), variant


def _of_photos(manifest: dict, photos: list[Path], variants: list[Variant]) -> Iterator[np.ndarray]:
    """Yield a model's inputs: for an attribute model the faces that the float detector finds, whole photos else."""
    if "attributes" not in manifest:
        for photo, variant in frames(photos, variants):
            frame = photo[int(photo.shape[0] * variant.cut) :, int(photo.shape[1] * variant.cut) :]
            yield frame_tensor(frame, manifest["spec"])[0]
        return
    int8 = SHIPPED[manifest["name"]].int8
    if "face" not in manifest["attributes"]["applies_to"] and not (int8 and int8.random):
        name = manifest["name"]
        raise SystemExit(f"quantise: {name} describes no faces, and crops are of faces alone: it stays float")
    detector = Detector(read_manifest(FACE_DETECTOR), FLOAT_GRAPHS / f"{FACE_DETECTOR}.onnx")
    for frame, variant in frames(photos, variants):
        for face in detector.detect(frame):
            x1, y1, x2, y2 = face.box
            across, down = variant.shift * (x2 - x1), variant.shift * (y2 - y1)
            box = (x1 + across, y1 + down, x2 + across, y2 + down)
            yield crop_tensor(frame, box, variant.margin, manifest["spec"])


def calibration_tensors(manifest: dict, count_max: int | None) -> list[np.ndarray]:
    """Return what a shipped model is calibrated on."""
    photos = [PHOTOS / name for name in CALIBRATION_PHOTOS]
    return list(islice(_of_photos(manifest, photos, CALIBRATION_VARIANTS), count_max))


def gate_tensors(manifest: dict, count_min: int, count_max: int | None) -> list[np.ndarray]:
    """Return the gate's inputs for a shipped model: `count_min` faces; all frames and photos, at least so many."""
    photos = [PHOTOS / name for name in GATE_PHOTOS]
    if "attributes" in manifest:
        found = list(islice(_of_photos(manifest, photos, GATE_FACE_VARIANTS), count_max or count_min))
    else:
        video = (frame_tensor(load_photo(path), manifest["spec"])[0] for path in sorted(FRAMES.glob("*.jpg")))
        found = list(islice(chain(video, _of_photos(manifest, photos, GATE_PHOTO_VARIANTS)), count_max))
    wanted = count_max or count_min
    if len(found) < wanted:
        raise SystemExit(f"quantise: the gate has {len(found)} inputs and needs {wanted}: run scripts/setup again")
    return found
