"""The committed stubs are what generate.py writes."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_generating_the_stubs_again_gives_the_same_files(tmp_path):
    pytest.importorskip("grpc_tools")
    pinned = f"grpcio-tools=={metadata.version('grpcio-tools')}"
    if pinned not in (ROOT / "pyproject.toml").read_text():
        pytest.skip(f"{pinned} is not the version that pyproject.toml pins")
    spec = importlib.util.spec_from_file_location("generate", ROOT / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    generate.generate(tmp_path)
    again = {file.name: file.read_text() for file in tmp_path.iterdir()}
    committed = {
        file.name: file.read_text() for file in (ROOT / "framepipe" / "_generated").iterdir() if file.is_file()
    }
    assert again == committed
