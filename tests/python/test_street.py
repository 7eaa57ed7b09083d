"""The Python client against the real server: photos in, people out.

Run by scripts/check, which builds the server and installs the client with pip.
"""

import os
import pathlib
import signal
import subprocess
import tempfile

import framepipe
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("FRAMEPIPE_BINARIES", ROOT / "target" / "verify"))
READY_S = 120


@pytest.fixture(scope="module")
def server():
    """Run a street pipeline of the test's own: its address and its inbox."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir="/dev/shm") as inbox:
        config = pathlib.Path(folder, "street.toml")
        config.write_text(
            f'name = "python-{os.getpid()}"\n'
            '[pipeline]\ndetector = "nanodet416-4c-int8"\n'
            f'[paths]\nmodels = "{ROOT}/models"\nonnxruntime = "{ROOT}/build/lib/libonnxruntime.so"\n'
            f'run = "{folder}/run"\nstate = "{folder}/state"\n'
            f'[server]\ntcp = ""\ninbox = ["{inbox}"]\n'
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


def test_photos_come_back_with_people_and_the_blob_goes(server):
    """Paths and bytes; results in frame order; the inbox is empty afterwards."""
    address, inbox = server
    photos = [ROOT / "photos" / name for name in ("bus.jpg", "zidane.jpg")]
    with framepipe.Client(address, stream="photos", inbox=inbox) as client:
        client.push([photos[0], ("again", photos[1].read_bytes())])
        results = list(client.results(until_drained=True, ordered=True))
    assert [result.name for result in results] == ["bus.jpg", "again"]
    for result in results:
        assert result.error is None
        assert any(found.label == "person" and found.score > 0.5 for found in result.detections)
    assert list(pathlib.Path(inbox).iterdir()) == []


def test_a_bad_image_is_its_own_error(server):
    """One typed error; its neighbour has its detections."""
    address, inbox = server
    good = (ROOT / "photos" / "bus.jpg").read_bytes()
    with framepipe.Client(address, stream="bad", inbox=inbox) as client:
        client.push([("bad", good[: len(good) // 2]), ("good", good)])
        results = {result.name: result for result in client.results(until_drained=True)}
    assert results["bad"].error is not None and "CORRUPT" in str(results["bad"].error.code)
    assert results["good"].detections


def test_what_lies_outside_the_inbox_is_refused(server):
    """PERMISSION_DENIED as a typed exception."""
    address, inbox = server
    with framepipe.Client(address, stream="outside", inbox=inbox) as client, pytest.raises(framepipe.PermissionDenied):
        client.push_files(files=["/etc/passwd"])
