"""The search of `framepipe model quantize`, which made the inputs and says what it wants as JSON.

    quantise_model.py JOB < INPUTS

JOB is what bins/model/src/quantize.rs writes. Prints what it came to; where a model comes of it, puts it into the
repository as NAME-int8, whole, with report.json beside it. What it makes until then lies in a temporary folder.
Ctrl-C and SIGTERM end it, and nothing was changed; once the search is over, they come too late: what is left takes a
moment, and it says what came of it.
"""

import stopping

if __name__ == "__main__":
    stopping.stop_when_told()  # first, since what follows is slow to import

import json
import mmap
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import onnx
from agreement import NOT_FINITE, UnmeasurableError
from gate import AGREEMENT_MIN, Gate, Twin
from onnx_graph import fold_constants
from repository import filled, place
from search import Found, Search, end_of
from shipped import Int8

REPORT = "report.json"
MANIFEST = "manifest.toml"


class RefusedError(Exception):
    """No model comes of it: says why, and what to do."""


def tell(text: str) -> None:
    """Say how far it is."""
    print(f"quantize: {text}", file=sys.stderr, flush=True)


def read_inputs(job: dict) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the inputs that are standard input, each a batch of one: the calibration's and the gate's."""
    dtype = {"f32": np.float32, "u8": np.uint8}[job["dtype"]]
    count = job["calibration"] + job["gate"]
    mapped = mmap.mmap(sys.stdin.fileno(), 0, prot=mmap.PROT_READ)
    numbers = np.frombuffer(mapped, dtype).reshape(count, 1, *job["shape"])
    return list(numbers[: job["calibration"]]), list(numbers[job["calibration"] :])


def read_manifest(job: dict) -> dict:
    """Return the float model's manifest, with what its inputs are and with its charsets."""
    folder = Path(job["folder"])
    manifest = tomllib.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    size = {"width": job["width"], "height": job["height"]}
    charsets = {
        output["tensor"]: (folder / output["kind"]["ctc_text"]["charset"]).read_text(encoding="utf-8").splitlines()
        for output in manifest.get("attributes", {}).get("outputs", [])
        if "ctc_text" in output["kind"]
    }
    return manifest | {"spec": {"tensor": manifest["input"]["tensor"]} | size, "charsets": charsets}


def prepare(source: Path, target: Path) -> None:
    """Write a float graph as quantisation needs it: what is constant folded, and each node with a name of its own."""
    shutil.copyfile(source, target)
    fold_constants(target)
    model = onnx.load(target)
    seen = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)
    onnx.save(model, target)


def search(job: dict, manifest: dict, folder: Path) -> Found:
    """Search; the graph found is model.onnx in the folder."""
    calibration, gate = read_inputs(job)
    source = folder / "float.onnx"
    try:
        prepare(Path(job["folder"]) / job["file"], source)
        tell(f"the float model, on {len(gate)} inputs of the gate")
        twin = Twin(manifest, source, gate)
        return Search(twin, Twin(manifest, source, calibration), Int8(), job["target"], folder, tell).best()
    except UnmeasurableError as error:
        raise RefusedError(str(error)) from error
    except ValueError as error:
        raise RefusedError(f"ONNX Runtime's quantiser cannot take this graph: {error}") from error


def why_not(job: dict, name: str, gate: Gate) -> str | None:
    """Return why the model found is not to be kept, None where it is."""
    for output, agreement in gate.outputs.items():
        if bad := agreement.detail.get(NOT_FINITE):
            return (
                f"output {output} is no finite number (NaN or infinity) on {bad} of {gate.inputs} inputs, of the float "
                "model or of the INT8 one, which --force does not change: leave such images out, or mend the model"
            )
    if gate.is_float:
        return "no layer can be INT8 and pass: serve the float model"
    if job["is_forced"]:
        return None
    if not gate.passed:
        return f"agreement {gate.agreement:.4f} is below {AGREEMENT_MIN}: give other images, or --force {name}"
    if gate.speed is not None and gate.speed <= 1:
        return (
            f"{gate.speed:.2f} times the float model's speed: INT8 gains nothing; serve the float model, "
            f"or --force {name}"
        )
    return None


def described(job: dict, found: Found) -> str:
    """Return what was found, for people."""
    gate = found.gate
    before, after = (size / 1e6 for size in gate.bytes)
    speed = f"{gate.speed:.2f} times the float model's" if gate.speed else "not measured: made for another device"
    lines = [
        ("size", f"{before:.1f} MB to {after:.1f} MB"),
        ("speed", speed),
        ("measured on", f"{gate.inputs} inputs; calibrated on {job['calibration']} others"),
    ]
    for name, output in gate.outputs.items():
        lines.append((name, f"{output.measure} {output.value:.4f}"))
        classes = output.detail.get("classes", {})
        lines += [("", f"{label} {one['ap50']:.4f}, of {one['boxes']} boxes") for label, one in classes.items()]
        if left_out := output.detail.get("left_out"):
            lines.append(("", f"too few boxes to tell: {', '.join(left_out)}"))
    left = f"{len(gate.float_layers)} of {gate.layers} layers; of the graph's end: {end_of(found.int8)}"
    lines += [("calibration", found.int8.method), ("left float", left), ("trials", str(len(found.trials)))]
    return "\n".join(f"  {name:<12} {value}" for name, value in lines)


def manifest_text(job: dict, manifest: dict, name: str) -> str:
    """Return the manifest's text to be filled in; refused before the work where that cannot be done."""
    path = Path(job["folder"]) / MANIFEST
    made = f"# Made by framepipe model quantize, of {manifest['name']}@{manifest['version']}.\n"
    text = made + path.read_text(encoding="utf-8")
    try:
        filled(text, {"name": name, "version": 1, "file": "", "sha256": ""})
    except ValueError as error:
        raise RefusedError(f"{path}: {error}") from error
    return text


def run(job: dict) -> str:
    """Search, report, and put what comes of it into the repository; return what to say."""
    manifest, models = read_manifest(job), Path(job["models"])
    name = f"{manifest['name']}-int8"
    version = job["out_version"]
    if version and (models / name / str(version)).exists():
        raise RefusedError(f"{name} has a version {version}: give another --out-version")
    described_as = manifest_text(job, manifest, name)
    with tempfile.TemporaryDirectory(prefix="framepipe-quantize-") as scratch:
        folder = Path(scratch)
        found = search(job, manifest, folder)
        stopping.too_late_to_stop()
        model = {"model": manifest["name"], "version": manifest["version"], "target": job["target"]}
        report = model | {"images": job["images"]} | found.report()
        report_text = json.dumps(report, indent=1) + "\n"
        if job["report"]:
            Path(job["report"]).write_text(report_text)
        gate = found.gate
        if reason := why_not(job, manifest["name"], gate):
            raise RefusedError(f"{reason}\n{described(job, found)}")
        files = {REPORT: report_text.encode()}
        for one in Path(job["folder"]).iterdir():
            if one.is_file() and one.name not in (job["file"], MANIFEST, REPORT):
                files[one.name] = one.read_bytes()
        section = gate.toml(forced=not (gate.passed and job["is_enough"]))
        try:
            placed = place(described_as, name, version, folder / "model.onnx", section, models, files)
        except ValueError as error:
            path = Path(job["folder"]) / MANIFEST
            raise RefusedError(f"{path}: what was found cannot be added to it: {error}") from error
    return f"{placed}: {name}@{placed.name}\n{described(job, found)}"


def main() -> None:
    """Run the job."""
    job = json.loads(sys.argv[1])
    try:
        print(run(job))
    except (RefusedError, OSError) as error:
        sys.exit(f"framepipe model: quantize: {error}")


if __name__ == "__main__":
    main()
