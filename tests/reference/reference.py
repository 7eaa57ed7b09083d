"""Run a detector, and attribute models on what it finds, over photos; write the results as JSON.

The meaning of a manifest, written a second time in plain numpy, to compare the product with:

    reference.py --models models --detector tiny-face-416 --attributes face-age-gender \
        --out results.json photos/zidane.jpg

Format: {"detector": name, "photos": [{"file", "width", "height", "detections": [{"box": [x1, y1, x2,
y2], "class", "label", "score", "attributes": [{"model", "name", "label" and "score" | "number" |
"vector" | "points"}], "mask": {"x", "y", "width", "height", "counts"}}]}]}. Boxes are in pixels of the
upright photo; only detectors that draw masks have them. Points are [x, y, score].
"""

import argparse
import json
from pathlib import Path

from attributes import AttributeModel
from detector import Detection, Detector
from images import load_photo


class Found:
    """Detections that somebody else made: a file of this program's format, in place of a detector."""

    def __init__(self, path: Path):
        """Read the file."""
        self.photos = {photo["file"]: photo["detections"] for photo in json.loads(path.read_text())["photos"]}

    def of(self, path: Path) -> list[Detection]:
        """Return what was found in a photo."""
        return [
            Detection(tuple(one["box"]), one["class"], one["label"], one["score"]) for one in self.photos[path.name]
        ]


def describe_photo(path: Path, detector: Detector | Found, models: list[AttributeModel]) -> dict:
    """Return one photo's results."""
    frame = load_photo(path)
    found = detector.of(path) if isinstance(detector, Found) else detector.detect(frame)
    detections = [
        {
            "box": list(detection.box),
            "class": detection.label_index,
            "label": detection.label,
            "score": detection.score,
            "attributes": [
                attribute
                for model in models
                if model.applies_to(detection)
                for attribute in model.describe(frame, detection)
            ],
        }
        | ({"mask": detection.mask} if detection.mask else {})
        for detection in found
    ]
    return {
        "file": path.name,
        "width": frame.shape[1],
        "height": frame.shape[0],
        "detections": detections,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="the model repository")
    parser.add_argument("--detector", required=True, help="name of the detector")
    parser.add_argument("--attributes", default="", help="names of attribute models, by commas")
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTO")
    parser.add_argument("--score-threshold", type=float, help="instead of the manifest's (AP wants about 0.05)")
    parser.add_argument("--found", type=Path, help="describe what this file has, instead of the detector's findings")
    arguments = parser.parse_args()
    detector = Detector.of_repository(arguments.models, arguments.detector)
    if arguments.score_threshold is not None:
        detector.spec["score_threshold"] = arguments.score_threshold
    names = [name for name in arguments.attributes.split(",") if name]
    models = [AttributeModel.of_repository(arguments.models, name) for name in names]
    source = Found(arguments.found) if arguments.found else detector
    photos = [describe_photo(path, source, models) for path in arguments.photos]
    result = {"detector": arguments.detector, "photos": photos}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
