"""All of a frame's work in one process: decode, detect, describe. For peers whose workers do everything."""

from pathlib import Path

import numpy as np

from cascade import manifest
from cascade.attributes import AttributeModel, describe
from cascade.engine import open_session
from cascade.heads import Head
from cascade.images import Preprocessor, Raw, pixels


class Whole:
    """The models of a cascade, opened, with the buffers of one frame."""

    def __init__(self, models: Path, detector: str, attributes: list[str], crops_max: int, raw: Raw | None) -> None:
        """Open them. `raw`: what frames are that are no encoded images."""
        model = manifest.load(models, detector)
        self._raw = raw
        self._preprocessor = Preprocessor(model.input)
        self._tensor = np.empty((1, *self._preprocessor.shape), np.float32)
        self._input = model.input.tensor
        self._session = open_session(model.graph)
        self._head = Head(model, [output.name for output in self._session.get_outputs()])
        labels = model.detector["labels"]
        loaded = (manifest.load(models, name) for name in attributes)
        self._attributes = [AttributeModel(one, labels, crops_max) for one in loaded]
        self._crops_max = crops_max

    def find(self, encoded: np.ndarray) -> list:
        """Return a frame's detections; with attribute models pairs, each of a detection and its attributes."""
        image = pixels(encoded, self._raw)
        placement = self._preprocessor.image(image, self._tensor[0])
        detections = self._head.detections(self._session.run(None, {self._input: self._tensor}), placement)
        return described(self._attributes, self._crops_max, image, detections) if self._attributes else detections


def described(models: list[AttributeModel], crops_max: int, image: np.ndarray, detections: list) -> list:
    """Return pairs, each of a detection and its attributes; at most `crops_max` have any, highest scores first."""
    attributes = describe(models, image, detections[:crops_max])
    attributes += [[] for _ in detections[crops_max:]]
    return list(zip(detections, attributes, strict=True))
