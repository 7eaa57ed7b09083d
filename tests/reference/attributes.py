"""An attribute model: the crop of a detection in, attributes out."""

from pathlib import Path

import numpy as np
from detector import Detection
from heads import softmax
from images import crop_tensor
from manifest import load_manifest
from session import open_session


def attribute_value(kind: dict, numbers: np.ndarray) -> dict:
    """Turn one output (a vector) into an attribute's value, by its kind in the manifest."""
    ((name, options),) = kind.items()
    match name:
        case "class":
            if options["activation"] == "softmax":
                numbers = softmax(numbers)
            best = int(numbers.argmax())
            return {"label": options["labels"][best], "score": float(numbers[best])}
        case "binary":
            probability = float(numbers[0])
            label = options["labels"][int(probability > 0.5)]
            return {"label": label, "score": max(probability, 1 - probability)}
        case "number":
            return {"number": float(numbers[0])}
        case "expectation":
            steps = options["first"] + np.arange(len(numbers)) * options["step"]
            return {"number": float(numbers.astype(np.float64) @ steps)}
        case "vector":
            if options["normalize"]:
                numbers = numbers / max(float(np.linalg.norm(numbers)), 1e-12)
            return {"vector": [float(number) for number in numbers]}
        case _:
            raise ValueError(f"attribute kind `{name}` is not known")


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

    def crop(self, frame: np.ndarray, box: tuple) -> np.ndarray:
        """Return the tensor of a detection's crop."""
        return crop_tensor(frame, box, self.manifest["spec"]["margin"], self.manifest["spec"])

    def describe_crop(self, tensor: np.ndarray) -> list[dict]:
        """Return the attributes of one crop."""
        outputs = self.spec["outputs"]
        names = [output["tensor"] for output in outputs]
        results = self.session.run(names, {self.manifest["input"]["tensor"]: tensor})
        return [
            {
                "model": self.manifest["name"],
                "name": output["name"],
                **attribute_value(output["kind"], result[0].reshape(-1)),
            }
            for output, result in zip(outputs, results, strict=True)
        ]

    def describe(self, frame: np.ndarray, detection: Detection) -> list[dict]:
        """Return the attributes of one detection."""
        return self.describe_crop(self.crop(frame, detection.box))
