"""What a server is asked for whose workers do a frame's whole work: its options, and the cascade that they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade.whole import Whole


def options(description: str | None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--detector", default="", help="without one, nothing is found")
    parser.add_argument("--attributes", type=lambda names: names.split(",") if names else [], default=[])
    parser.add_argument("--crops-max", type=int, default=32)
    parser.add_argument("--raw", type=int, nargs=2, help="width and height of RGB frames that are no encoded images")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", type=Path, required=True, help="framepipe's model repository")
    return parser.parse_args()


def opened(asked: argparse.Namespace) -> Whole | None:
    """Open the models that are asked for; none where nothing is to be found."""
    if not asked.detector:
        return None
    from cascade.whole import Whole  # noqa: PLC0415 (a worker needs its packages, the server's own process none)

    raw = (*asked.raw, True) if asked.raw else None
    return Whole(asked.models, asked.detector, asked.attributes, asked.crops_max, raw)
