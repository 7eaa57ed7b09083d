"""Makes the workloads' images in a folder of tmpfs, and prints {"sets": {SET: material}, "expected": {WORKLOAD: […]}}.

material.py FOLDER MODELS PHOTOS WORKLOAD ...

`expected` are the detections of each image by framepipe's reference implementation (tests/reference, in PYTHONPATH).

Sets: `raw416`, random frames in one file; `street`, photos as 1080p JPEGs of about 255 kB; `facesN`, 1080p JPEGs with N
faces that the detector finds: four tiles of photos, with and without a face.
"""

import json
import sys
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
from cascade import manifest
from cascade.engine import open_session
from cascade.heads import Head
from cascade.images import Preprocessor
from detector import Detector
from images import load_photo

from harness.workloads import RAW_SIDE, WORKLOADS, Workload

FRAMES = 32
WIDTH, HEIGHT = 1920, 1080
JPEG_BYTES = 255_000
STREET = ["zidane.jpg", "sample1.jpg", "sample3.jpg", "sample4.jpg", "bus.jpg"]
FACE_SETS_OF = 4


def covering(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the middle of an image, scaled to cover a size."""
    scale = max(width / image.shape[1], height / image.shape[0])
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    large = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return large[top : top + height, left : left + width]


def jpeg(image: np.ndarray) -> bytes:
    """Return an image as the JPEG whose size is nearest to JPEG_BYTES."""
    encoded = [
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes() for quality in range(40, 100, 3)
    ]
    return min(encoded, key=lambda one: abs(len(one) - JPEG_BYTES))


class Faces:
    """The detector of faces, to count them in what is put together."""

    def __init__(self, models: Path) -> None:
        """Open it."""
        model = manifest.load(models, "tiny-face-416")
        self._session = open_session(model.graph)
        self._head = Head(model, [output.name for output in self._session.get_outputs()])
        self._preprocessor = Preprocessor(model.input)
        self._input = model.input.tensor

    def find(self, image: np.ndarray) -> list:
        """Return the faces of an image."""
        tensor = np.empty((1, *self._preprocessor.shape), np.float32)
        placement = self._preprocessor.image(image, tensor[0])
        return self._head.detections(self._session.run(None, {self._input: tensor}), placement)

    def tiles(self, photos: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return tiles with one face each, and tiles without."""
        width, height = WIDTH // 2, HEIGHT // 2
        having, empty = [], []
        for photo in photos:
            found = self.find(photo)
            if not found:
                empty.append(covering(photo, width, height))
            for x0, y0, x1, y1, *_ in found:
                across = max(1.6 * (x1 - x0), 1.2 * (y1 - y0)) * 1.2
                down = across * height / width
                left, top = max(0, int((x0 + x1 - across) / 2)), max(0, int((y0 + y1 - down) / 2))
                tile = covering(photo[top : top + int(down), left : left + int(across)], width, height)
                having.append(tile)
        return having, empty

    def images(self, photos: list[np.ndarray], count: int) -> list[np.ndarray]:
        """Return images with so many faces."""
        having, empty = self.tiles(photos)
        made = []
        for start in range(len(having)):
            chosen = [*islice(cycle(having), start, start + count), *islice(cycle(empty), start, start + 4 - count)]
            image = np.vstack([np.hstack(chosen[:2]), np.hstack(chosen[2:])])
            if len(self.find(image)) == count:
                made.append(image)
        if not made:
            raise RuntimeError(f"no four tiles of the photos have {count} faces together")
        return made[:FACE_SETS_OF]


def write(folder: Path, name: str, encoded: list[bytes]) -> dict:
    """Write encoded images, a file each."""
    files = [folder / f"{name}-{place}.jpg" for place in range(len(encoded))]
    for file, content in zip(files, encoded, strict=True):
        file.write_bytes(content)
    return {"files": [str(file) for file in files], "sizes": [len(content) for content in encoded], "raw": None}


def expected(workload: Workload, material: dict, models: Path) -> list[int]:
    """Return the detections of each image: of raw ones of the first, which is all that batches of one consist of."""
    if workload.is_noop:
        return [0] * len(material["files"])
    reference = Detector.of_repository(models, workload.detector)
    if material["raw"]:
        width, height = material["raw"]
        frames = [np.fromfile(path, np.uint8, 3 * width * height) for path in material["files"]]
        return [len(reference.detect(frame.reshape(height, width, 3))) for frame in frames]
    return [len(reference.detect(load_photo(Path(path)))) for path in material["files"]]


def main() -> None:
    """Make the sets of the workloads that are asked for."""
    folder, models, photos = map(Path, sys.argv[1:4])
    workloads = [WORKLOADS[name] for name in sys.argv[4:]]
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name in sorted({workload.images for workload in workloads}):
        if name == "raw416":
            path = folder / "raw416.bin"
            frames = np.random.default_rng(1).integers(0, 256, (FRAMES, RAW_SIDE, RAW_SIDE, 3), np.uint8)
            frames[:, 0, 0, 0] = 0  # the score of framepipe's no-op detector's one box: the peers' find none
            frames.tofile(path)
            sizes = [3 * RAW_SIDE * RAW_SIDE] * FRAMES
            made[name] = {"files": [str(path)], "sizes": sizes, "raw": [RAW_SIDE, RAW_SIDE]}
        elif name == "street":
            pictures = [covering(cv2.imread(str(photos / photo)), WIDTH, HEIGHT) for photo in STREET]
            made[name] = write(folder, name, [jpeg(picture) for picture in pictures])
        else:
            pictures = [cv2.imread(str(path)) for path in sorted(photos.glob("*.jpg"))]
            images = Faces(models).images(pictures, int(name.removeprefix("faces")))
            made[name] = write(folder, name, [jpeg(image) for image in images])
    known = {workload.name: expected(workload, made[workload.images], models) for workload in workloads}
    for workload in workloads:
        if workload.is_limited and min(known[workload.name]) < workload.crops_a_frame:
            raise RuntimeError(f"{workload.name}: a frame has fewer than {workload.crops_a_frame} detections")
    print(json.dumps({"sets": made, "expected": known}))


if __name__ == "__main__":
    main()
