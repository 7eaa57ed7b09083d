"""Labels, detections and their AP by pycocotools, which framepipe's is compared with.

    coco_ap.py --out FOLDER

Writes FOLDER/labels.json (COCO's) and FOLDER/cases.json: {"detections": [{"image_id", "category_id", "bbox",
"score"}], "ap", "ap50", "classes": [{"name", "ap", "ap50"}]}; -1 where there are no objects. The draws are seeded:
crowds, equal scores, overlaps of exactly 0.5, classes without objects, without detections and without either, images
with more than 100 detections, and images without any.

Run it in the environment that has pycocotools (scripts/requirements-opencv.txt).
"""

import argparse
import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CLASSES = ["person", "no object", "no detection", "neither", "crowds", "crowds alone", "many"]
IMAGES = 60
SIDE = 400


def draw_box(rng: np.random.Generator) -> list[int]:
    """Return left, top, width and height, whole pixels."""
    width, height = rng.integers(8, 120, 2)
    return [int(rng.integers(0, SIDE - width)), int(rng.integers(0, SIDE - height)), int(width), int(height)]


def near(rng: np.random.Generator, box: list[int]) -> list[float]:
    """Return a detection of a box: the box, half of it exactly, or a shifted one."""
    left, top, width, height = box
    match rng.integers(4):
        case 0:
            return [float(side) for side in box]
        case 1:
            return [float(left), float(top), float(width), height / 2]
        case _:
            move = rng.normal(0, 0.12, 4) * [width, height, width, height]
            move[2:] = np.maximum(move[2:], [-width / 2, -height / 2])
            return [float(side) for side in np.array(box) + move]


def draw(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """Return labels and detections."""
    labels = {
        "images": [{"id": 7 * number, "file_name": f"{number}.jpg"} for number in rng.permutation(IMAGES).tolist()],
        "categories": [{"id": 3 + number, "name": name} for number, name in enumerate(CLASSES)],
        "annotations": [],
    }
    detections = []
    for image in range(IMAGES):
        for number, name in enumerate(CLASSES):
            here = {"image_id": 7 * image, "category_id": 3 + number}
            has_objects = name not in ("no object", "neither") and rng.random() < 0.7
            boxes = [draw_box(rng) for _ in range(rng.integers(1, 5))] if has_objects else []
            for box in boxes:
                crowd = int(name == "crowds alone" or (name == "crowds" and rng.random() < 0.4))
                area = box[2] * box[3]
                annotation = here | {"bbox": box, "iscrowd": crowd, "area": area, "id": len(labels["annotations"]) + 1}
                labels["annotations"].append(annotation)
            if name in ("no detection", "neither") or image % 9 == 0:
                continue
            found = [near(rng, boxes[rng.integers(len(boxes))]) for _ in range(rng.integers(0, 7)) if boxes]
            found += [[float(side) for side in draw_box(rng)] for _ in range(rng.integers(0, 3))]
            if name == "many" and image % 10 == 1:
                found += [[float(side) for side in draw_box(rng)] for _ in range(120)]
            # Few different scores, so that many are equal.
            detections += [here | {"bbox": box, "score": float(rng.integers(1, 20)) / 20} for box in found]
    return labels, detections


def mean(precision: np.ndarray) -> float:
    """Return the mean of what is there, -1 of nothing."""
    there = precision[precision > -1]
    return float(there.mean()) if there.size else -1.0


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    labels, detections = draw(np.random.default_rng(arguments.seed))
    path = arguments.out / "labels.json"
    path.write_text(json.dumps(labels))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # Overlap, recall, class, objects of all sizes, 100 detections.
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    result = {
        "detections": detections,
        "ap": mean(precision),
        "ap50": mean(precision[0]),
        "classes": [
            {"name": name, "ap": mean(precision[:, :, number]), "ap50": mean(precision[0, :, number])}
            for number, name in enumerate(CLASSES)
        ],
    }
    (arguments.out / "cases.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
