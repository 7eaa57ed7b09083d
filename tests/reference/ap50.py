"""AP50 of one class: VOC's all-point interpolation at IoU 0.5.

    ap50.py --labels tests/data/person_labels.json --label person results.json

The labels are a list of {"file", "sha256", "<label>_xyxy": [[x1, y1, x2, y2], ...]}; the detections
are what reference.py writes. Prints the AP50.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from detector import iou

IOU_MIN = 0.5


def average_precision(truth: dict[str, list], detections: list[tuple[float, str, list]]) -> float:
    """Return the AP of detections (score, file, box) against the labelled boxes of each file.

    Each labelled box is matched at most once, by the highest-scoring detection whose best overlap
    it is; the precision curve is made falling, and its area over recall is the result.
    """
    labelled = sum(len(boxes) for boxes in truth.values())
    matched = {file: np.zeros(len(boxes), bool) for file, boxes in truth.items()}
    hits = []
    for _, file, box in sorted(detections, key=lambda d: -d[0]):
        hit = False
        if truth[file]:
            overlaps = iou(np.array(box, float), np.array(truth[file], float))
            best = int(overlaps.argmax())
            hit = overlaps[best] >= IOU_MIN and not matched[file][best]
            matched[file][best] |= hit
        hits.append(hit)
    found = np.cumsum(hits)
    recall = np.concatenate([[0], found / labelled])
    precision = np.concatenate([found / np.arange(1, len(hits) + 1), [0]])
    falling = np.maximum.accumulate(precision[::-1])[::-1][:-1]
    return float(np.sum(np.diff(recall) * falling))


def ap50(labels: list[dict], results: dict, label: str) -> float:
    """Return the AP50 of a class from labels JSON and results JSON."""
    truth = {entry["file"]: entry[f"{label}_xyxy"] for entry in labels}
    photos = {photo["file"]: photo for photo in results["photos"]}
    if missing := truth.keys() - photos.keys():
        raise ValueError(f"no results for the labelled photos {sorted(missing)}")
    detections = [
        (detection["score"], file, detection["box"])
        for file in truth
        for detection in photos[file]["detections"]
        if detection["label"] == label
    ]
    return average_precision(truth, detections)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--label", default="person", help="the class")
    parser.add_argument("results", type=Path, help="detections, as reference.py writes them")
    arguments = parser.parse_args()
    labels = json.loads(arguments.labels.read_text())
    results = json.loads(arguments.results.read_text())
    print(f"{ap50(labels, results, arguments.label):.4f}")


if __name__ == "__main__":
    main()
