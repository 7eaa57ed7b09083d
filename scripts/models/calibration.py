"""What quantisation is calibrated and measured on: the fetched photos, and the faces in them.

Photos and crops go through the preprocessing that the manifest states. There are few photos, so each
is used mirrored and at several brightnesses too. Measuring uses other variants than calibrating.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from onnxruntime.quantization import CalibrationDataReader
from paths import FLOAT_GRAPHS, MANIFESTS, PHOTOS, use_reference

use_reference()

from detector import Detector  # noqa: E402
from images import crop_tensor, frame_tensor, load_photo  # noqa: E402
from manifest import read_manifest as read  # noqa: E402

# Fetched without --tests, so that everyone's INT8 graphs are calibrated on the same photos.
CALIBRATION_PHOTOS = ["bus.jpg", "zidane.jpg", *(f"sample{i}.jpg" for i in range(1, 7))]
FACE_DETECTOR = "tiny-face-416"


class Variant(NamedTuple):
    """One way to look at a photo, and to crop a face in it: `shift` is in parts of its side."""

    brightness: float
    mirrored: bool
    margin: float
    shift: float


CALIBRATION_VARIANTS = [
    Variant(brightness=0.6, mirrored=False, margin=0.05, shift=0.0),
    Variant(brightness=1.0, mirrored=False, margin=0.15, shift=0.0),
    Variant(brightness=1.0, mirrored=True, margin=0.3, shift=0.0),
    Variant(brightness=1.3, mirrored=True, margin=0.15, shift=0.08),
]
# 8 photos, 25 times each.
MEASUREMENT_COUNT = 25


def _measurement_variants() -> list[Variant]:
    random = np.random.default_rng(2)
    return [
        Variant(
            brightness=float(random.uniform(0.65, 1.3)),
            mirrored=bool(random.integers(2)),
            margin=float(random.uniform(0.05, 0.3)),
            shift=float(random.uniform(-0.08, 0.08)),
        )
        for _ in range(MEASUREMENT_COUNT)
    ]


MEASUREMENT_VARIANTS = _measurement_variants()


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


def frames(variants: list[Variant]) -> Iterator[tuple[np.ndarray, Variant]]:
    """Yield each photo in each variant."""
    for name in CALIBRATION_PHOTOS:
        photo = load_photo(PHOTOS / name)
        for variant in variants:
            yield _look(photo, variant), variant


def face_tensors(manifest: dict, variants: list[Variant]) -> Iterator[np.ndarray]:
    """Yield the tensors of the faces that the float face detector finds in the photo variants."""
    detector = Detector(read_manifest(FACE_DETECTOR), FLOAT_GRAPHS / f"{FACE_DETECTOR}.onnx")
    for frame, variant in frames(variants):
        for face in detector.detect(frame):
            x1, y1, x2, y2 = face.box
            across, down = variant.shift * (x2 - x1), variant.shift * (y2 - y1)
            box = (x1 + across, y1 + down, x2 + across, y2 + down)
            yield crop_tensor(frame, box, variant.margin, manifest["spec"])


def tensors(manifest: dict, variants: list[Variant]) -> Iterator[np.ndarray]:
    """Yield the input tensors of a model: faces for an attribute model, whole photos else."""
    if "attributes" in manifest:
        yield from face_tensors(manifest, variants)
    else:
        for frame, _ in frames(variants):
            yield frame_tensor(frame, manifest["spec"])[0]


class CalibrationReader(CalibrationDataReader):
    """Hands tensors to ONNX Runtime's calibration."""

    def __init__(self, input_name: str, tensors: Iterator[np.ndarray]):
        """Feed `tensors` to the input of this name."""
        self._feeds = ({input_name: tensor} for tensor in tensors)

    def get_next(self) -> dict | None:
        """Return the next feed, or None at the end."""
        return next(self._feeds, None)
