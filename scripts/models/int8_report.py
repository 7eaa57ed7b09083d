"""Writes docs/int8.md: how near the shipped INT8 graphs come to their float twins, and what searches came to.

    int8_report.py > docs/int8.md

Reads what quantise.py left in build/onnx/int8 and search_shipped.py in build/onnx/try; measures nothing.
"""

import json
import tomllib

from agreement import CLASS_BOXES_MIN, SCORE_MIN
from calibration import CALIBRATION_PHOTOS, CALIBRATION_VARIANTS, GATE_PHOTO_VARIANTS, GATE_PHOTOS
from gate import AGREEMENT_MIN, INPUTS_MIN
from onnx_graph import LAYERS
from paths import BUILD
from search import end_of
from shipped import SHIPPED

# Less speed than this is not worth an INT8 model: a run's figures differ by as much.
WORTH = 1.1

HEAD = f"""# INT8 and its gate

Made by `build/venv/bin/python scripts/models/int8_report.py > docs/int8.md`, from what `scripts/setup` and
`scripts/models/search_shipped.py` measured on this machine. An INT8 model is served where its agreement with its
float twin is {AGREEMENT_MIN} or more, or where it was forced by name. The agreement is that of the worst output:

| measure | of | is |
|---|---|---|
| `ap50` | detectors | AP50 of the detections, the float twin's taken for the truth, the mean over classes |
| `top1` | a class | share of inputs with the same one |
| `jaccard` | several classes | mean share that both name of those that either names |
| `within` | numbers | share of inputs whose number is within 5 % of the float twin's |
| `within` | points | share of points that lie within 5 % of the crop's sides |
| `edit` | text | 1 - edit distance / longer line, the mean |
| `cosine` | embeddings, and all outputs of random weights | mean cosine |

Speed is the float twin's CPU time over the INT8 graph's, runs in turns, medians, one thread, batch 1.

Weights have 7 bits, because AVX2 without VNNI saturates with 8; those of depthwise layers have 8, because their
kernels add in 32 bits and because 7 are too few for them. A layer ({", ".join(LAYERS)}) that stays float has its
input dequantised by channel, so that ONNX Runtime's optimiser does not quantise it after all (`shield` in
scripts/models/quantise.py).

## What it is measured on

The shipped models are calibrated on {len(CALIBRATION_PHOTOS)} photos in {len(CALIBRATION_VARIANTS)} variants
(mirrored, brightness). The gate has none of them. For detectors it has 200 frames of a video that calibrates nothing,
OpenCV's `vtest.avi` (people on a street, 79 s of one camera: the frames are like one another, so that they are worth
fewer than 200 independent ones), and {len(GATE_PHOTOS)} other photos in {len(GATE_PHOTO_VARIANTS)} variants. In the
video no face is large enough for the face detector, so that face models are measured on {INPUTS_MIN} crops of the
faces of these other photos, which are a dozen people, in variants. Models with random weights are right for speed
alone, and have few inputs.

A search that leaves layers float stops at the first set that passes on the gate's inputs, which makes what it finds a
little better there than elsewhere.

## What ships as INT8

| model | agreement | measure | inputs | speed | float layers | measured |
|---|---|---|---|---|---|---|
"""

AP50 = f"""
## Which AP50

The truth is what the float twin is served with: its detections above its manifest's threshold. The INT8 model's are
ranked by score from {SCORE_MIN} on, as AP wants it. Each class has an AP of its own, and the agreement is their mean,
which is what VOC and COCO mean by AP50. A class of fewer than {CLASS_BOXES_MIN} boxes cannot tell {AGREEMENT_MIN}
from chance: such classes share one AP, and are left out where they have too few together.

Two other definitions were tried and are not what the gate goes by:

- *One ranking*: all classes ranked as one. Frequent classes hide what becomes of rare ones: were every bus lost, and
  buses were 2 % of the boxes, it would say 0.98.
- *At the threshold*: the mean over classes, without the INT8 model's detections below its threshold. It calls each
  object lost that came to lie just below the threshold, and has no curve to speak of: it is the share of objects that
  both find. It says what a ranking cannot, that scores have all sunk, and is told for that.

| model | mean over classes: the gate's | one ranking | at the threshold | by class (boxes) | left out (boxes) |
|---|---|---|---|---|---|
"""

NEAREST = f"""
Of what ships float this is the nearest of the search's trials that is {WORTH} times as fast or faster. With its 80
classes `nanodet416-80c` finds in the video what is not there (a stone is a bird, a jacket on the grass a sports ball:
judged by eye), at scores about the threshold. What moves these scores a little finds others, so that its rare classes
do not agree, and each counts.
"""

TRIED = f"""
## What searches came to

The first settings that pass, of three ends of the graph left float, each with the nearest of three calibrations, and
of layers left float besides. What they make less than {WORTH} times as fast ships float.

| model | calibration | end left float | outputs | inputs | speed | layers left float | MB | trials | ships | measured |
|---|---|---|---|---|---|---|---|---|---|---|
"""

OF_ONES_OWN = """
## Models of one's own

`framepipe model quantize NAME --images DIR` does the same for any float model of the repository, on one's own images,
made into inputs by the model's own graph of operators. Each fifth image calibrates, the others are the gate's; 200
inputs of the gate are the least without `--force`. Frames of one video are like one another: of such a folder the gate
sees scenes that calibrated, and the agreement on others may be lower. An attribute model sees crops of what the
detector `--boxes` finds, 4 of an image at most, or without it each image whole. `report.json` in the new version's
folder has every trial.

`--target tensorrt` makes symmetric numbers (s8, weights of 8 bits) and leaves biases float. What it is worth is
computed in floats of the quantised numbers, as on a device that never saturates; its speed is not measured, and no CPU
serves it. It has not been run by TensorRT.
"""


def searches() -> dict[str, dict]:
    """Return the searches' reports."""
    reports = [json.loads(path.read_text()) for path in sorted((BUILD / "onnx" / "try").glob("*/report.json"))]
    return {report["model"]: report for report in reports}


def shipped_rows() -> str:
    """Return a row for each INT8 graph."""
    rows = []
    for name, model in SHIPPED.items():
        if not model.int8:
            continue
        measured = json.loads(model.graph().with_suffix(".json").read_text())["measured"]
        gate = tomllib.loads(model.graph().with_suffix(".toml").read_text())["quantized"]
        label = " (random weights: right for speed alone)" if model.int8.random else ""
        rows.append(
            f"| {name}{label} | {gate['agreement']:.4f} | {gate['measure']} | {gate['images']} | {gate['speed']:.2f} | "
            f"{len(gate['float_layers'])} | {measured} |"
        )
    return "\n".join(rows) + "\n"


def nearest(report: dict) -> dict | None:
    """Return the nearest of a search's trials at the gate that is worth it."""
    trials = [trial for trial in report["trials"] if trial["inputs"] == "gate" and trial["speed"] >= WORTH]
    return max(trials, key=lambda trial: trial["agreement"], default=None)


def ap50_rows() -> str:
    """Return a row for each detector that ships as INT8, and for each that a search could not make so."""
    measured = {
        name: json.loads(model.graph().with_suffix(".json").read_text())["outputs"]
        for name, model in SHIPPED.items()
        if model.int8 and not model.int8.random
    }
    for name, report in searches().items():
        trial = None if SHIPPED[name].int8 else nearest(report)
        if trial:
            measured[f"{name} (the nearest INT8, speed {trial['speed']:.2f})"] = trial["outputs"]
    rows = []
    for name, outputs in measured.items():
        for output in outputs.values():
            if output["measure"] != "ap50":
                continue
            each = output["classes"].items()
            classes = ", ".join(f"{label} {one['ap50']:.4f} ({one['boxes']})" for label, one in each)
            left_out = ", ".join(f"{label} ({boxes})" for label, boxes in output["left_out"].items())
            rows.append(
                f"| {name} | {output['value']:.4f} | {output['one_ranking']:.4f} | {output['at_threshold']:.4f} | "
                f"{classes} | {left_out} |"
            )
    return "\n".join(rows) + "\n"


def ships(report: dict) -> str:
    """Return what ships of a searched model."""
    int8 = SHIPPED[report["model"]].int8
    if not int8:
        return "float"
    is_found = (int8.method, end_of(int8)) == (report["calibration"], report["left_float"])
    return "INT8" if is_found else f"INT8, float: {end_of(int8)}"


def searched_rows() -> str:
    """Return a row for each search."""
    rows = []
    for report in searches().values():
        outputs = ", ".join(f"{name} {one['measure']} {one['value']:.4f}" for name, one in report["outputs"].items())
        sizes = " to ".join(f"{report['bytes'][kind] / 1e6:.1f}" for kind in ("float", "int8"))
        left = "all" if report["precision"] == "float" else len(report["float_layers"])
        rows.append(
            f"| {report['model']} | {report['calibration']} | {report['left_float']} | {outputs} | "
            f"{report['inputs']} | {report['speed']:.2f} | {left} | {sizes} | {len(report['trials'])} | "
            f"{ships(report)} | {report['measured']} |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(HEAD + shipped_rows() + AP50 + ap50_rows() + NEAREST + TRIED + searched_rows() + OF_ONES_OWN, end="")
