"""Detector graphs of real architectures that find painted objects, and the painted image.

    painted.py --out FOLDER [--only NAME] [--images COUNT]

Writes FOLDER/painted.png, FOLDER/empty.png without objects, a model repository FOLDER/models with a detector of each
family (`graphs/`), and FOLDER/painted.json: by detector, a list of {"class", "box": [x0, y0, x1, y1], "mask": counts or
null}, what the detector must find, in pixels of the image. Masks are run lengths in the box. FOLDER/images gets COUNT
more images, with objects drawn by number.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from graphs import maskrcnn, nanodet, resnet_anchor, rtdetr, scene, ssd, yolov2, yolov3, yolov8
from graphs.net import LABELS
from heads import runs

# By name: the module that builds the graph, the head's text, and the strides whose objects it finds.
DETECTORS = {
    "yolov3-darknet53": (yolov3.build_raw, yolov3.RAW_HEAD, [8, 16, 32]),
    "yolov3-darknet53-exported": (yolov3.build_exported, yolov3.EXPORTED_HEAD, [8, 16, 32]),
    "yolov8-raw": (yolov8.build_raw, yolov8.RAW_HEAD, [8, 16, 32]),
    "yolov8-exported": (yolov8.build_exported, yolov8.EXPORTED_HEAD, [8, 16, 32]),
    "ssd-mobilenet": (ssd.build_priors, ssd.PRIORS_HEAD, [16, 32]),
    "ssd-mobilenet-exported": (ssd.build_exported, ssd.EXPORTED_HEAD, [16, 32]),
    "rtdetr-resnet18": (rtdetr.build, rtdetr.HEAD, [8, 16, 32]),
    "nanodet-shufflenet": (nanodet.build, nanodet.HEAD, [16, 32]),
    "yolov2-darknet19": (yolov2.build, yolov2.HEAD, [32]),
    "maskrcnn-resnet18-fpn": (maskrcnn.build, maskrcnn.HEAD, [8, 16, 32]),
    "resnet18-anchor": (resnet_anchor.build, resnet_anchor.HEAD, [16, 32]),
}
END_TO_END = ("rtdetr", "maskrcnn", "ssd.exported")

MANIFEST = """name = "{name}"
version = 1
file = "model.onnx"
sha256 = "{sha256}"
source = "made by tests/reference/painted.py: weights that find painted objects"
licence = "Apache-2.0"
description = "finds red and green rectangles"

[input]
tensor = "images"
graph = [
    {{ op = "decode", scale = "exact" }},
    {{ op = "orient" }},
    {{ op = "resize", fit = "letterbox", width = {side}, height = {side}, filter = "linear" }},
    {{ op = "normalize", scale = 0.00392156862745098 }},
    {{ op = "layout", order = "nchw" }},
]

[detector]
labels = {labels}
score_threshold = 0.3
iou_threshold = {iou_threshold}
candidates_max = 1000
detections_max = 100

{head}
"""


def write_model(folder: Path, name: str) -> None:
    """Write a detector's graph and manifest."""
    build, head, _ = DETECTORS[name]
    folder = folder / name / "1"
    folder.mkdir(parents=True)
    graph = folder / "model.onnx"
    build(graph, scene.SIDE)
    text = MANIFEST.format(
        name=name,
        sha256=hashlib.sha256(graph.read_bytes()).hexdigest(),
        side=scene.SIDE,
        labels=json.dumps(LABELS),
        iou_threshold=1.0 if any(f"[detector.head.{family}]" in head for family in END_TO_END) else 0.45,
        head=head,
    )
    (folder / "manifest.toml").write_text(text)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    parser.add_argument("--only", choices=DETECTORS, help="one detector instead of all")
    parser.add_argument("--images", type=int, default=0, help="so many more images")
    arguments = parser.parse_args()
    scene.paint(arguments.out / "painted.png", scene.OBJECTS)
    scene.paint(arguments.out / "empty.png", [])
    (arguments.out / "images").mkdir()
    for number in range(arguments.images):
        scene.paint(arguments.out / "images" / f"{number:03}.png", scene.drawn(np.random.default_rng(number)))
    painted = {}
    for name in [arguments.only] if arguments.only else DETECTORS:
        write_model(arguments.out / "models", name)
        has_masks = "maskrcnn" in DETECTORS[name][1]
        painted[name] = [
            found | {"mask": runs(found["mask"]) if has_masks else None} for found in scene.truth(DETECTORS[name][2])
        ]
    (arguments.out / "painted.json").write_text(json.dumps(painted))


if __name__ == "__main__":
    main()
