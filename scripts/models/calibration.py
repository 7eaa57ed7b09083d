"""What quantisation is calibrated and measured on: the fetched photos, and the faces in them.

Photos and crops go through the preprocessing that the manifest states. There are few photos, so each
is used mirrored and at several brightnesses too. The gate uses other variants than the calibration.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from onnxruntime.quantization import CalibrationDataReader
from paths import FLOAT_GRAPHS, MANIFESTS, PHOTOS, use_reference
from shipped import SHIPPED

use_reference()

from detector import Detector  # noqa: E402
from images import crop_tensor, frame_tensor, load_photo  # noqa: E402
from manifest import read_manifest as read  # noqa: E402

# Fetched without --tests, so that everyone's INT8 graphs are calibrated on the same photos.
CALIBRATION_PHOTOS = ["bus.jpg", "zidane.jpg", *(f"sample{i}.jpg" for i in range(1, 7))]
FACE_DETECTOR = "tiny-face-416"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


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
# The gate's: none of the calibration's. As many are taken as its count of inputs needs.
GATE_VARIANTS = [
    Variant(brightness, mirrored, margin, shift, cut=margin + shift)
    for shift in (0.05, -0.06, 0.02, -0.03)
    for margin in (0.1, 0.2)
    for brightness in (0.8, 1.0, 1.15, 0.9)
    for mirrored in (True, False)
]


@dataclass(frozen=True)
class Input:
    """One input of a model, and the frame that it is of."""

    tensor: np.ndarray
    frame: np.ndarray


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


def images_of(folder: Path) -> list[Path]:
    """Return the photos in a folder, by name."""
    images = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise SystemExit(f"quantise: {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}): name a folder of photos")
    return images


def shipped_photos() -> list[Path]:
    """Return the photos that everyone has."""
    return [PHOTOS / name for name in CALIBRATION_PHOTOS]


def frames(photos: list[Path], variants: list[Variant]) -> Iterator[tuple[np.ndarray, Variant]]:
    """Yield each photo in a variant, then each in the next one."""
    for variant in variants:
        for photo in photos:
            yield _look(load_photo(photo), variant), variant


def inputs(manifest: dict, photos: list[Path], variants: list[Variant]) -> Iterator[Input]:
    """Yield a model's inputs: for an attribute model the faces that the float detector finds, whole photos else."""
    if "attributes" not in manifest:
        for photo, variant in frames(photos, variants):
            frame = photo[int(photo.shape[0] * variant.cut) :, int(photo.shape[1] * variant.cut) :]
            yield Input(frame_tensor(frame, manifest["spec"])[0], frame)
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
            yield Input(crop_tensor(frame, box, variant.margin, manifest["spec"]), frame)


def calibration_tensors(manifest: dict, count_max: int | None, photos: list[Path] | None = None) -> list[np.ndarray]:
    """Return what a model is calibrated on."""
    found = inputs(manifest, photos or shipped_photos(), CALIBRATION_VARIANTS)
    return [one.tensor for one in islice(found, count_max)]


def gate_tensors(manifest: dict, count: int, photos: list[Path] | None = None) -> list[Input]:
    """Return `count` inputs for the gate."""
    found = list(islice(inputs(manifest, photos or shipped_photos(), GATE_VARIANTS), count))
    if len(found) < count:
        raise SystemExit(
            f"quantise: these images give {len(found)} inputs, and the gate needs {count}: give more images of "
            f"{'faces' if 'attributes' in manifest else 'what the model finds'}"
        )
    return found


class CalibrationReader(CalibrationDataReader):
    """Hands tensors to ONNX Runtime's calibration."""

    def __init__(self, input_name: str, tensors: Iterator[np.ndarray]):
        """Feed `tensors` to the input of this name."""
        self._feeds = ({input_name: tensor} for tensor in tensors)

    def get_next(self) -> dict | None:
        """Return the next feed, or None at the end."""
        return next(self._feeds, None)
