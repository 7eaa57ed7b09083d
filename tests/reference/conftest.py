"""Paths for the tests: the reference's own modules, the scripts that make the models, what they made."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "reference"), str(ROOT / "scripts" / "models")]


def _made(folder: str, sample: str) -> Path:
    path = ROOT / folder
    if not (path / sample).exists():
        pytest.fail(f"{path / sample} is missing: run scripts/setup --tests")
    return path


@pytest.fixture(scope="session")
def models() -> Path:
    """Return the model repository."""
    return _made("models", "nanodet416-4c-int8/1/model.onnx")


@pytest.fixture(scope="session")
def photos() -> Path:
    """Return the folder of photos, those that only tests need included."""
    return _made("photos", "2011_000003.jpg")
