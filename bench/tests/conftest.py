"""Paths of what the tests import, and servers of the paper's design to test."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "clients/python"), str(ROOT / "tests/reference")]

import framepipe  # noqa: E402
from harness.ports import free_port  # noqa: E402

PATIENCE_S = 300
"""How long anything may take on a machine that has other things to do."""


@contextmanager
def running(inbox: Path, *options: str) -> Iterator[tuple[framepipe.Client, subprocess.Popen]]:
    """Start the paper's design, and give a client of it and its process."""
    address = f"127.0.0.1:{free_port()}"
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'bench'}:{ROOT / 'clients/python'}"}
    command = [sys.executable, "-m", "peers.python_design", "--address", address, "--inbox", str(inbox), *options]
    command += ["--lost-s", str(2 * PATIENCE_S)]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as server:
        try:
            with framepipe.Client(address, stream="test", inbox=inbox) as client:
                client.wait_ready(PATIENCE_S)
                yield client, server
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


@pytest.fixture(params=["queues", "shm"])
def variant(request: pytest.FixtureRequest) -> str:
    """Name each variant of the paper's design."""
    return request.param
