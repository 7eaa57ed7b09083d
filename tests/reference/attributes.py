"""An attribute model: the crop of a detection in, attributes out."""

from pathlib import Path

import numpy as np
from detector import Detection
from heads import sigmoid, softmax
from images import crop_box, fitted, shown
from manifest import load_manifest
from session import open_session


def _scores(activation: str, numbers: np.ndarray) -> np.ndarray:
    """Return scores of numbers, over the last axis."""
    functions = {"none": lambda x: x, "sigmoid": sigmoid, "softmax": softmax}
    return functions[activation](numbers.astype(np.float64))


def _classes(options: dict, numbers: np.ndarray) -> dict:
    """Return the classes that hold, best first."""
    scores = np.clip(_scores(options["activation"], numbers), 0, 1)
    order = [index for index in np.argsort(-scores, kind="stable") if scores[index] > options["score_threshold"]]
    best = order[: options["classes_max"]]
    return {"classes": [{"label": options["labels"][index], "score": float(scores[index])} for index in best]}


def _keypoints(options: dict, numbers: np.ndarray, rect: tuple, size: tuple) -> dict:
    """Return points in source pixels: `rect` (x0, y0, x1, y1) is what was stretched to a tensor of `size`."""
    points = numbers.astype(np.float64).reshape(len(options["names"]), -1)
    shares = points[:, :2] / (1 if options["normalized"] else size)
    places = rect[:2] + shares * np.subtract(rect[2:], rect[:2])
    activation = options.get("activation")
    scores = np.clip(_scores(activation, points[:, 2]), 0, 1) if activation else np.ones(len(points))
    return {"points": np.column_stack([places, scores]).tolist()}


def _ctc_text(options: dict, numbers: np.ndarray, charset: list[str]) -> dict:
    """Return the line of the best character of each step, without repeats, blanks, and spaces at either end."""
    scores = _scores(options["activation"], numbers.reshape(-1, 1 + len(charset)))
    best = scores.argmax(1)
    is_new = np.concatenate([[True], best[1:] != best[:-1]]) & (best != options["blank"])
    symbols = [*charset[: options["blank"]], "", *charset[options["blank"] :]]
    line = [symbols[index] for index in best[is_new]]
    label = "".join(line).strip(" ")
    first = next((place for place, symbol in enumerate(line) if symbol != " "), 0)
    kept = np.clip(scores[is_new, best[is_new]], 0, 1)[first : first + len(label)]
    return {"label": label, "score": float(kept.mean()) if len(kept) else 0.0}


def attribute_value(
    kind: dict, numbers: np.ndarray, rect: tuple = (0, 0, 1, 1), size: tuple = (1, 1), charset: tuple = ()
) -> dict:
    """Turn one output (a vector) into an attribute's value, by its kind in the manifest."""
    ((name, options),) = kind.items()
    match name:
        case "class":
            scores = _scores(options["activation"], numbers)
            best = int(numbers.argmax())
            value = {"label": options["labels"][best], "score": float(np.clip(scores[best], 0, 1))}
        case "classes":
            value = _classes(options, numbers)
        case "binary":
            probability = float(np.clip(numbers[0], 0, 1))
            label = options["labels"][int(probability > 0.5)]
            value = {"label": label, "score": max(probability, 1 - probability)}
        case "number":
            value = {"number": float(numbers[0]) * options.get("scale", 1.0) + options.get("offset", 0.0)}
        case "expectation":
            steps = options["first"] + np.arange(len(numbers)) * options["step"]
            value = {"number": float(_scores(options.get("activation", "none"), numbers) @ steps)}
        case "vector":
            if options["normalize"]:
                numbers = numbers / max(float(np.linalg.norm(numbers.astype(np.float64))), 1e-12)
            value = {"vector": [float(number) for number in numbers]}
        case "keypoints":
            value = _keypoints(options, numbers, rect, size)
        case "ctc_text":
            value = _ctc_text(options, numbers, list(charset))
        case _:
            raise ValueError(f"attribute kind `{name}` is not known")
    return value


class AttributeModel:
    """An attribute model as its manifest describes it."""

    def __init__(self, manifest: dict, graph: Path):
        """Open a graph by a manifest."""
        self.manifest = manifest
        self.spec = manifest["attributes"]
        self.session = open_session(graph)

    @classmethod
    def of_repository(cls, models: Path, name: str) -> "AttributeModel":
        """Open a model of the repository."""
        manifest = load_manifest(models, name)
        return cls(manifest, manifest["path"])

    def applies_to(self, detection: Detection) -> bool:
        """Say whether detections of this class are this model's."""
        return detection.label in self.spec["applies_to"]

    def describe_crop(self, tensor: np.ndarray, rect: tuple = (0, 0, 1, 1)) -> list[dict]:
        """Return the attributes of one crop; `rect` is what of the frame the whole tensor shows."""
        outputs, spec = self.spec["outputs"], self.manifest["spec"]
        names = [output["tensor"] for output in outputs]
        results = self.session.run(names, {self.manifest["input"]["tensor"]: tensor})
        size = spec["width"], spec["height"]
        return [
            {
                "model": self.manifest["name"],
                "name": output["name"],
                **attribute_value(output["kind"], result[0].reshape(-1), rect, size),
            }
            for output, result in zip(outputs, results, strict=True)
        ]

    def describe(self, frame: np.ndarray, detection: Detection) -> list[dict]:
        """Return the attributes of one detection."""
        spec = self.manifest["spec"]
        box = crop_box(detection.box, spec["margin"], spec)
        tensor, placement = fitted(frame, box, spec)
        return self.describe_crop(tensor, shown(box, spec, placement))
