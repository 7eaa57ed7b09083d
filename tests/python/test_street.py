"""The Python client against the real server: photos in, people out.

Run by scripts/check, which builds the server and installs the client with pip.
"""

import pathlib

import framepipe
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


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
