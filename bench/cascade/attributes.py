"""Attribute models: the crops of one image's detections in, attributes out, in one run of each model."""

import numpy as np

from cascade.engine import open_session
from cascade.images import Preprocessor
from cascade.manifest import Model
from cascade.results import Attribute, Detection


class AttributeModel:
    """One model with its session and its buffer of crops."""

    def __init__(self, model: Model, labels: list[str], crops_max: int, threads: int = 1) -> None:
        """Open the model; `labels` are the detector's."""
        self._model = model
        self._classes = {index for index, label in enumerate(labels) if label in model.attributes["applies_to"]}
        self._session = open_session(model.graph, threads)
        self._names = [output["tensor"] for output in model.attributes["outputs"]]
        self._preprocessor = Preprocessor(model.input)
        dtype = np.float32 if model.input.dtype == "f32" else np.uint8
        self._crops = np.empty((crops_max, *self._preprocessor.shape), dtype)

    def describe(self, image: np.ndarray, detections: list[Detection]) -> list[list[Attribute]]:
        """Return the attributes of each detection."""
        attributes = [[] for _ in detections]
        chosen = [place for place, found in enumerate(detections) if found[4] in self._classes][: len(self._crops)]
        if chosen:
            for crop, place in zip(self._crops, chosen, strict=False):
                self._preprocessor.crop(image, detections[place][:4], crop)
            results = self._session.run(self._names, {self._model.input.tensor: self._crops[: len(chosen)]})
            for spec, rows in zip(self._model.attributes["outputs"], results, strict=True):
                for place, row in zip(chosen, rows, strict=True):
                    value = _value(spec["kind"], row.reshape(-1))
                    attributes[place].append((self._model.name, spec["name"], *value))
        return attributes


def describe(models: list[AttributeModel], image: np.ndarray, detections: list[Detection]) -> list[list[Attribute]]:
    """Return the attributes of each detection, by all models."""
    attributes = [[] for _ in detections]
    for model in models:
        for so_far, more in zip(attributes, model.describe(image, detections), strict=True):
            so_far.extend(more)
    return attributes


def _value(kind: dict, numbers: np.ndarray) -> tuple[str, object]:
    ((name, options),) = kind.items()
    match name:
        case "class":
            best = int(numbers.argmax())
            score = numbers[best]
            if options["activation"] == "softmax":
                score = 1 / np.exp(numbers - score).sum()
            return "class", (options["labels"][best], float(score), best)
        case "binary":
            best = int(numbers[0] > 0.5)
            return "class", (options["labels"][best], float(numbers[0] if best else 1 - numbers[0]), best)
        case "number":
            return "number", float(numbers[0]) * options.get("scale", 1.0) + options.get("offset", 0.0)
        case "expectation":
            return "number", float(numbers @ (options["first"] + np.arange(len(numbers)) * options["step"]))
        case "vector":
            norm = max(float(np.linalg.norm(numbers)), 1e-12) if options["normalize"] else 1.0
            return "vector", (numbers / norm).tolist()
        case _:
            raise NotImplementedError(f"the peers have no attributes of kind {name}")
