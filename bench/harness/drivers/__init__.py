"""Clients of the peers, one file a protocol, all with the same three calls (`Driver`)."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

Done = Callable[[int, int], None]
"""Told, once or several times, how many frames of a push succeeded and how many failed."""


@dataclass(frozen=True)
class Material:
    """Images in tmpfs: encoded ones, a file each; or raw frames, one after another in one file."""

    files: list[str]
    sizes: list[int]
    raw: tuple[int, int] | None


class Driver(Protocol):
    """A connection to a peer."""

    def round_trip(self, batch: int) -> None:
        """Push a batch and wait for all its results; raise where one is an error."""

    def submit(self, batch: int, done: Done) -> None:
        """Push a batch; its results come later, from any thread."""

    def close(self) -> None:
        """End the connection."""


def connect(name: str, address: str, material: Material, options: dict) -> Driver:
    """Return a connection by the driver of this name. Each wants packages of its own environment."""
    return import_module(f"harness.drivers.{name}").Connection(address, material, options)
