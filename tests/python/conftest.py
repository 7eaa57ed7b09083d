"""A real server for the tests, and the images of tests/corrupt."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import framepipe
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("FRAMEPIPE_BINARIES", ROOT / "target" / "verify"))
READY_S = 120
sys.path.insert(0, str(ROOT / "tests" / "corrupt"))


@contextlib.contextmanager
def running(detector: str, models: pathlib.Path):
    """Run a pipeline of the test's own: its address and its inbox."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir="/dev/shm") as inbox:
        config = pathlib.Path(folder, "pipeline.toml")
        config.write_text(
            f'name = "python-{os.getpid()}"\n'
            f'[pipeline]\ndetector = "{detector}"\n'
            f'[paths]\nmodels = "{models}"\nonnxruntime = "{ROOT}/build/lib/libonnxruntime.so"\n'
            f'run = "{folder}/run"\nstate = "{folder}/state"\n'
            f'[server]\ntcp = ""\nhttp = ""\ninbox = ["{inbox}"]\n'
        )
        launcher = subprocess.Popen([BINARIES / "framepipe", "up", "--config", config])
        try:
            address = f"unix:{folder}/run/grpc.sock"
            with framepipe.Client(address) as client:
                client.wait_ready(READY_S)
            yield address, inbox
        finally:
            launcher.send_signal(signal.SIGTERM)
            code = launcher.wait(READY_S)
        assert code == 0, "a drained pipeline ends well"


@pytest.fixture(scope="module")
def server():
    """Run a pipeline that finds people and vehicles."""
    with running("nanodet416-4c-int8", ROOT / "models") as server:
        yield server
