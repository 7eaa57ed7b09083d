"""A model's manifest, `models/<name>/<version>/manifest.toml`: what its graph wants and gives."""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Input:
    """What a model is given: pixels of a size, a fit, an order of channels and a scale.

    `crop` is "square" or "box", of crops of detections only; `margin` is a part of the box's side.
    """

    tensor: str
    width: int = 0
    height: int = 0
    fit: str = "stretch"
    pad: float = 0.0
    bgr: bool = False
    dtype: str = "u8"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop: str = ""
    margin: float = 0.0


@dataclass(frozen=True)
class Model:
    """A model of the repository. `detector` and `attributes` are the manifest's tables; one of them is empty."""

    name: str
    graph: Path
    input: Input
    detector: dict
    attributes: dict


def load(models: Path, name: str) -> Model:
    """Return the newest version of a model."""
    versions = sorted((models / name).glob("*/manifest.toml"), key=lambda path: int(path.parent.name))
    if not versions:
        raise FileNotFoundError(f"{models} holds no model {name}: run scripts/setup")
    table = tomllib.loads(versions[-1].read_text())
    return Model(
        table["name"],
        versions[-1].parent / table["file"],
        _input(table["input"]),
        table.get("detector", {}),
        table.get("attributes", {}),
    )


def _input(table: dict) -> Input:
    fields = {"tensor": table["tensor"]}
    for operator in table["graph"]:
        match operator:
            case {"op": "decode" | "orient"} | {"op": "layout", "order": "nchw"}:
                pass
            case {"op": "crop", "detection": crop, **rest}:
                fields |= {"crop": crop, "margin": rest.get("margin", 0.0)}
            case {"op": "resize", "fit": fit, "width": width, "height": height, **rest}:
                fields |= {"fit": fit, "width": width, "height": height, "pad": rest.get("pad", 0.0)}
            case {"op": "convert", "color": color}:
                fields["bgr"] = color == "bgr"
            case {"op": "normalize", "mean": mean, "std": std, **rest} if not rest:
                fields |= {"mean": _three(mean), "std": _three(std), "dtype": "f32"}
            case {"op": "cast", "dtype": dtype}:
                fields["dtype"] = dtype
            case _:
                raise NotImplementedError(f"the peers have no {operator}")
    return Input(**fields)


def _three(value: float | list[float]) -> tuple[float, float, float]:
    return tuple(value) if isinstance(value, list) else (value,) * 3
