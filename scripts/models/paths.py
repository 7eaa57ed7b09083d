"""Where things lie, relative to the repository's root."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MANIFESTS = ROOT / "config" / "models"
MODELS = ROOT / "models"
PHOTOS = ROOT / "photos"
PERSON_LABELS = ROOT / "tests" / "data" / "person_labels.json"
REFERENCE = ROOT / "tests" / "reference"

BUILD = ROOT / "build"
DOWNLOADS = BUILD / "downloads"
SOURCES = BUILD / "sources"
FLOAT_GRAPHS = BUILD / "onnx" / "fp32"
INT8_GRAPHS = BUILD / "onnx" / "int8"
# Of the video that the gate sees.
FRAMES = BUILD / "frames"


def use_reference() -> None:
    """Make the modules of the Python reference importable.

    Calibration preprocesses photos and crops faces with the very code that the product is tested
    against, so that there is one Python meaning of a manifest, not two.
    """
    if str(REFERENCE) not in sys.path:
        sys.path.insert(0, str(REFERENCE))
