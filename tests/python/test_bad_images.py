"""Bad and odd images in one batch: each gets its typed error or its result, and its neighbours theirs."""

import pathlib

import framepipe
from bad_images import bad_images

PHOTOS = pathlib.Path(__file__).resolve().parents[2] / "photos"
UNSUPPORTED = ("empty.jpg", "start-marker.jpg", "noise.jpg")
TOO_LARGE = ("bomb.jpg", "bomb-progressive.jpg", "bomb.png", "bomb.bmp")
CORRUPT = (
    *("cut-header.jpg", "cut.jpg", "noise-behind-header.jpg", "data-40-bytes.jpg", "sides-of-zero.jpg", "scans.jpg"),
    *("cut.png", "checksum.png", "cut.webp", "cut.bmp"),
)
ERRORS = {
    **dict.fromkeys(UNSUPPORTED, "UNSUPPORTED_FORMAT"),
    **dict.fromkeys(TOO_LARGE, "IMAGE_TOO_LARGE"),
    **dict.fromkeys(CORRUPT, "CORRUPT_IMAGE"),
}


def test_each_bad_image_has_its_error_and_its_neighbours_their_detections(server):
    """A good photo stands before and behind each bad image, and finds what it finds alone."""
    address, inbox = server
    good = (PHOTOS / "bus.jpg").read_bytes()
    bad = list(bad_images((PHOTOS / "sample6.jpg").read_bytes()))
    batch = [pair for number, (name, data) in enumerate(bad) for pair in ((name, data), (f"good-{number}", good))]
    with framepipe.Client(address, stream="bad-images", inbox=inbox) as client:
        client.push([("alone", good)])
        alone = next(iter(client.results(until_drained=True)))
        assert any(found.label == "person" for found in alone.detections)
        client.push(batch)
        results = {result.name: result for result in client.results(until_drained=True) if result.name != "alone"}
    assert set(results) == {name for name, _ in batch}
    for number, (name, _) in enumerate(bad):
        error = results[name].error
        assert (error.code if error else None) == ERRORS.get(name), f"{name}: {error}"
        neighbour = results[f"good-{number}"]
        assert neighbour.error is None, f"{name}: {neighbour.error}"
        assert neighbour.detections == alone.detections, name
