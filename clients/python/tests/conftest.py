from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_server import FakeServer

import framepipe


@pytest.fixture
def address(tmp_path):
    return f"unix:{tmp_path}/s"


@pytest.fixture
def inbox(tmp_path):
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def server(address):
    server = FakeServer()
    server.start(address)
    yield server
    server.stop()


@pytest.fixture
def client(server, address, inbox):
    with framepipe.Client(address, stream="cam-1", inbox=inbox, reconnect_s=20) as client:
        yield client
