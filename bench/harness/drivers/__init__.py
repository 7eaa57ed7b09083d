"""Clients of the peers, one file a protocol, all with the same three calls (`Driver`).

Each reads its answers as a user would, down to the number of detections: a client that looks away would be cheaper.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

Done = Callable[[list[int | None]], None]
"""Told, once or several times, what came of a push: of each frame how many detections, or nothing where it failed."""


@dataclass(frozen=True)
class Material:
    """Images in tmpfs: encoded ones, a file each; or raw frames, one after another in one file."""

    files: list[str]
    sizes: list[int]
    raw: tuple[int, int] | None


class Driver(Protocol):
    """A connection to a peer. Encoded images go in the order of the material, again and again."""

    def round_trip(self, batch: int) -> list[int]:
        """Push a batch and wait for all its results; return each one's detections, raise where one is an error."""

    def submit(self, batch: int, done: Done) -> None:
        """Push a batch; its results come later, from any thread."""

    def close(self) -> None:
        """End the connection."""


def check_described(models: list[set[str]], wanted: set[str], crops_max: int, name: str = "an image") -> None:
    """Fail where fewer detections than can be are described by all models: `models` has what describes each."""
    described, most = sum(one >= wanted for one in models), min(len(models), crops_max)
    if described < most:
        raise RuntimeError(f"{name}: {described} of {most} detections have what all attribute models say")


def connect(name: str, address: str, material: Material, options: dict) -> Driver:
    """Return a connection by the driver of this name. Each wants packages of its own environment."""
    return import_module(f"harness.drivers.{name}").Connection(address, material, options)
