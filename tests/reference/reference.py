"""Run a detector, and attribute models on what it finds, over photos; write the results as JSON.

The meaning of a manifest, written a second time in plain numpy, to compare the product with:

    reference.py --models models --detector tiny-face-416 --attributes face-age-gender \
        --out results.json photos/zidane.jpg

Format: {"detector": name, "photos": [{"file", "width", "height", "detections": [{"box": [x1, y1, x2,
y2], "class", "label", "score", "attributes": [{"model", "name", "label" and "score" | "number" |
"vector"}], "mask": {"x", "y", "width", "height", "counts"}}]}]}. Boxes are in pixels of the upright photo; only
detectors that draw masks have them.
"""

import argparse
import json
from pathlib import Path

from attributes import AttributeModel
from detector import Detector
from images import load_photo


def describe_photo(path: Path, detector: Detector, models: list[AttributeModel]) -> dict:
    """Return one photo's results."""
    frame = load_photo(path)
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
        for detection in detector.detect(frame)
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
    arguments = parser.parse_args()
    detector = Detector.of_repository(arguments.models, arguments.detector)
    if arguments.score_threshold is not None:
        detector.spec["score_threshold"] = arguments.score_threshold
    names = [name for name in arguments.attributes.split(",") if name]
    models = [AttributeModel.of_repository(arguments.models, name) for name in names]
    photos = [describe_photo(path, detector, models) for path in arguments.photos]
    result = {"detector": arguments.detector, "photos": photos}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
