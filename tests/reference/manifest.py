"""A model's manifest: `models/<name>/<version>/manifest.toml`, as a plain dictionary."""

import tomllib
from pathlib import Path


def load_manifest(models: Path, name: str) -> dict:
    """Return the manifest of the newest version of a model, with its graph's path as `path`."""
    versions = sorted((models / name).glob("*/manifest.toml"), key=lambda p: int(p.parent.name))
    if not versions:
        raise FileNotFoundError(f"{models}: holds no model {name}; run scripts/setup")
    manifest = read_manifest(versions[-1])
    manifest["path"] = versions[-1].parent / manifest["file"]
    return manifest


def read_manifest(path: Path) -> dict:
    """Return a manifest, with what its graph comes to as `spec`."""
    manifest = tomllib.loads(path.read_text())
    manifest["spec"] = spec_of(manifest["input"])
    return manifest


def spec_of(table: dict) -> dict:
    """Return what the graph of an `[input]` table comes to, where it is one that the reference knows.

    The reference decodes at full size, samples linearly, and has no crops but those of detections.
    """
    spec = {"tensor": table["tensor"], "color": "rgb", "dtype": "u8", "mean": 0.0, "std": 1.0, "scale": 1.0}
    for operator in table["graph"]:
        match operator:
            case {"op": "decode"} | {"op": "orient"} | {"op": "layout", "order": "nchw"}:
                pass
            case {"op": "crop", "detection": shape, **rest}:
                spec |= {"crop": shape, "margin": rest.get("margin", 0.0)}
            case {"op": "resize", "fit": fit, "width": width, "height": height, **rest}:
                spec |= {"resize": fit, "width": width, "height": height, "pad": rest.get("pad", 0)}
            case {"op": "convert", "color": color}:
                spec["color"] = color
            case {"op": "normalize", **rest}:
                spec |= rest | {"dtype": "f32"}
            case {"op": "cast", "dtype": dtype}:
                spec["dtype"] = dtype
            case _:
                raise NotImplementedError(f"the reference has no {operator}")
    return spec
