"""A model's manifest: `models/<name>/<version>/manifest.toml`, as a plain dictionary."""

import tomllib
from pathlib import Path


def load_manifest(models: Path, name: str) -> dict:
    """Return the manifest of the newest version of a model, with its graph's path as `path`."""
    versions = sorted((models / name).glob("*/manifest.toml"), key=lambda p: int(p.parent.name))
    if not versions:
        raise FileNotFoundError(f"{models}: holds no model {name}; run scripts/setup")
    manifest = tomllib.loads(versions[-1].read_text())
    manifest["path"] = versions[-1].parent / manifest["file"]
    return manifest
