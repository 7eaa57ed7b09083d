"""Writes docs/int8.md: how near the shipped INT8 graphs come to their float twins, and what searches came to.

    int8_report.py > docs/int8.md

Reads what quantise.py left in build/onnx/int8 and `framepipe model quantize` in build/onnx/try; measures nothing.
"""

import json
import tomllib

from gate import AGREEMENT_MIN
from paths import BUILD
from quantise import LAYERS
from shipped import SHIPPED

HEAD = f"""# INT8 and its gate

Made by `build/venv/bin/python scripts/models/int8_report.py > docs/int8.md`, from what `scripts/setup` and
`framepipe model quantize` measured on this machine. An INT8 model is served where its agreement with its float twin is
{AGREEMENT_MIN} or more, or where it was forced by name. The agreement is that of the worst output:

| measure | of | is |
|---|---|---|
| `ap50` | detectors | AP50 of the detections, the float twin's taken for the truth, classes ranked as one |
| `top1` | classes | share of inputs with the same highest class |
| `within` | quantities | share of inputs whose number is within 5 % of the float twin's |
| `cosine` | embeddings, and all outputs of random weights | mean cosine |

Speed is the float twin's CPU time over the INT8 graph's, runs in turns, medians, one thread, batch 1. Inputs are the
photos of `scripts/setup` in variants (mirrored, brightness, crops) other than those of the calibration: the same eight
photos, so that the agreement on others may be lower. A search that leaves layers float stops at the first set that
passes on these inputs.

Ranked as one, classes with few detections hardly count: the mean over classes is stricter. `nanodet416-80c-int8` above
all passes by the one, and its calibration is that of three which came nearest on these very inputs.

Weights have 7 bits, because AVX2 without VNNI saturates with 8; those of depthwise layers have 8, because their kernels
add in 32 bits and because 7 are too few for them. A layer ({", ".join(LAYERS)}) that stays float has its
input dequantised by channel, so that ONNX Runtime's optimiser does not quantise it after all (`shield` in
scripts/models/quantise.py).

## What ships as INT8

| model | agreement | measure | inputs | speed | float layers |
|---|---|---|---|---|---|
"""

TRIED = """
## What searches came to

The settings with the fewest float layers that pass, of three calibrations. What they make no faster ships float.

| model | calibration | outputs | inputs | speed | layers left float | MB | ships |
|---|---|---|---|---|---|---|---|
"""


def shipped_rows() -> str:
    """Return a row for each INT8 graph."""
    rows = []
    for name, model in SHIPPED.items():
        if not model.int8:
            continue
        gate = tomllib.loads(model.graph().with_suffix(".toml").read_text())["quantized"]
        label = " (random weights: right for speed alone)" if model.int8.random else ""
        rows.append(
            f"| {name}{label} | {gate['agreement']:.4f} | {gate['measure']} | {gate['images']} | {gate['speed']:.2f} | "
            f"{len(gate['float_layers'])} |"
        )
    return "\n".join(rows) + "\n"


def searched_rows() -> str:
    """Return a row for each search."""
    rows = []
    for path in sorted((BUILD / "onnx" / "try").glob("*/report.json")):
        report = json.loads(path.read_text())
        outputs = ", ".join(f"{name} {one['measure']} {one['value']:.4f}" for name, one in report["outputs"].items())
        sizes = " to ".join(f"{report['bytes'][kind] / 1e6:.1f}" for kind in ("float", "int8"))
        left = "all" if report["precision"] == "float" else len(report["float_layers"])
        rows.append(
            f"| {report['model']} | {report['method']} | {outputs} | {report['images']} | {report['speed']:.2f} | "
            f"{left} | {sizes} | {'INT8' if SHIPPED[report['model']].int8 else 'float'} |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(HEAD + shipped_rows() + TRIED + searched_rows(), end="")
