"""`framepipe model quantize`: searches the settings with which a float graph becomes INT8 and passes the gate.

    quantise_search.py NAME [--images DIR] [--target cpu|tensorrt] [--out-version N] [--force NAME]

Calibrates by each method and keeps the one that comes nearest to the float twin; then, until the gate
passes, leaves more and more layers float, the most sensitive first: those whose being float alone brings
the outputs nearest. Methods and layers are chosen on the calibration's inputs, the gate has others.
Nothing in it is drawn at random. Writes build/onnx/try/NAME/report.json, and what passes, or is forced, as a
version of its own into the repository.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from calibration import Input, calibration_tensors, gate_tensors, images_of, read_manifest
from gate import AGREEMENT_MIN, INPUTS_MIN, Gate, cosines, measure, run
from paths import BUILD, MANIFESTS, MODELS
from quantise import METHODS, Graph, quantise
from repository import place
from shipped import SHIPPED, Int8


class Search:
    """One float graph, and what is tried on it."""

    def __init__(self, name: str, photos: list[Path] | None, device: str, folder: Path):
        """Open a shipped model's float graph; `photos` are the shipped ones where there are none."""
        self.manifest, self.source, self.device = read_manifest(name), SHIPPED[name].float_graph(), device
        shipped = SHIPPED[name].int8 or Int8()
        self.start = replace(Int8(), inputs_max=shipped.inputs_max, random=shipped.random)
        self.target = folder / "model.onnx"
        self.ranges = {method: folder / f"ranges-{method}.json" for method in METHODS}
        for ranges in self.ranges.values():
            ranges.unlink(missing_ok=True)
        self.calibration = calibration_tensors(self.manifest, self.start.inputs_max, photos)
        if not self.calibration:
            raise SystemExit(f"quantise: {name}: no face in these images: give images of faces")
        count = self.start.inputs_max or INPUTS_MIN
        self.gate_inputs = gate_tensors(self.manifest, count, photos)
        self.inputs = [Input(tensor, tensor) for tensor in self.calibration]
        self.wanted = run(self.source, self.inputs)

    def make(self, int8: Int8) -> None:
        """Quantise."""
        name, ranges = self.manifest["input"]["tensor"], self.ranges[int8.method]
        quantise(self.source, self.target, self.calibration, int8, name, self.device, ranges)

    def nearness(self, int8: Int8) -> float:
        """Return the lowest mean cosine of an output on the calibration's inputs."""
        self.make(int8)
        found = run(self.target, self.inputs)
        return min(float(np.mean(cosines(values, found[name]))) for name, values in self.wanted.items())

    def gate(self, int8: Int8) -> Gate:
        """Quantise and measure."""
        self.make(int8)
        gate = measure(self.manifest, self.source, self.target, self.gate_inputs, int8)
        print(f"{int8.method}, {len(int8.float_layers)} layers left float:\n{gate.text()}", flush=True)
        return gate

    def best(self) -> tuple[Int8, Gate]:
        """Return the settings with the fewest float layers that pass, or those with all layers float."""
        nearness = {method: self.nearness(replace(self.start, method=method)) for method in METHODS}
        for method, value in nearness.items():
            print(f"{method}: cosine {value:.5f}", flush=True)
        int8 = replace(self.start, method=max(nearness, key=nearness.get))
        gate = self.gate(int8)
        if gate.passed:
            return int8, gate
        layers = Graph.read(self.source).layers
        alone = {}
        for number, layer in enumerate(layers, 1):
            alone[layer] = self.nearness(replace(int8, float_layers=(layer,)))
            print(f"layer {number} of {len(layers)}, {layer}, float: cosine {alone[layer]:.5f}", flush=True)
        ranked = sorted(layers, key=lambda layer: -alone[layer])
        step = max(1, len(layers) // 10)
        for count in [*range(step, len(layers), step), len(layers)]:
            chosen = set(ranked[:count])
            int8 = replace(int8, float_layers=tuple(layer for layer in layers if layer in chosen))
            gate = self.gate(int8)
            if gate.passed:
                break
        return int8, gate


def highest_version(model: Path) -> int:
    """Return the highest version of a model in the repository; 0 where there is none."""
    return max((int(folder.name) for folder in model.glob("*") if folder.name.isdigit()), default=0)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a model of the shipped table with a float graph")
    parser.add_argument("--images", type=Path, help="folder of photos [default: those of scripts/setup]")
    parser.add_argument("--target", choices=("cpu", "tensorrt"), default="cpu")
    parser.add_argument("--out-version", type=int, help="version in the repository [default: the highest and one]")
    parser.add_argument("--models", type=Path, default=MODELS, help="the repository")
    parser.add_argument("--force", metavar="NAME", help="keep this model even where the gate fails, marked as forced")
    arguments = parser.parse_args()
    if arguments.name not in SHIPPED:
        raise SystemExit(f"quantise: no model {arguments.name}: name one of {', '.join(SHIPPED)}")
    if arguments.force not in (None, arguments.name):
        raise SystemExit(f"quantise: --force {arguments.force} is not the model {arguments.name}: name it again")
    version = arguments.out_version or highest_version(arguments.models / arguments.name) + 1
    if (arguments.models / arguments.name / str(version)).exists():
        raise SystemExit(f"quantise: {arguments.name} has a version {version}: give another --out-version")
    folder = BUILD / "onnx" / "try" / arguments.name
    folder.mkdir(parents=True, exist_ok=True)
    photos = images_of(arguments.images) if arguments.images else None
    int8, gate = Search(arguments.name, photos, arguments.target, folder).best()
    report = {
        "model": arguments.name,
        "target": arguments.target,
        "method": int8.method,
        "outputs": {name: {"measure": kind, "value": value} for name, (kind, value) in gate.measures.items()},
        "images": gate.images,
        "speed": gate.speed,
        "bytes": {"float": gate.bytes[0], "int8": gate.bytes[1]},
        "float_layers": gate.float_layers,
        "precision": "float" if gate.is_float else "int8",
        "agreement": gate.agreement,
        "passed": gate.passed,
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    if gate.is_float:
        sys.exit(f"quantise: {arguments.name}: no layer can be INT8 and pass: it stays float; serve the float model")
    if not (gate.passed or arguments.force):
        sys.exit(
            f"quantise: {arguments.name}: agreement {gate.agreement:.4f} is below {AGREEMENT_MIN}: give other images, "
            f"or --force {arguments.name}"
        )
    if gate.speed <= 1 and not arguments.force:
        sys.exit(
            f"quantise: {arguments.name}: {gate.speed:.2f} times the float twin's speed: INT8 gains nothing; "
            f"serve the float model, or --force {arguments.name}"
        )
    section = gate.toml(forced=not gate.passed)
    manifest = MANIFESTS / f"{arguments.name}.toml"
    placed = place(manifest, folder / "model.onnx", version, section, arguments.models, only=False)
    print(f"{placed}: INT8, {gate.speed:.2f} times the float twin's speed")


if __name__ == "__main__":
    main()
