"""How near an INT8 graph comes to its float twin, and whether that is near enough to be served.

Each output has a measure, by what its manifest makes of it; the lowest one is the model's agreement:

    ap50    a detector: AP50 of its detections, the float twin's taken for the truth, classes ranked as one
    top1    classes: share of inputs with the same highest class
    within  a quantity: share of inputs whose number is within 5 % of the float twin's
    cosine  an embedding, or random weights, whose classes mean nothing: mean cosine
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from calibration import Input
from paths import use_reference
from session import open_session

use_reference()

from ap50 import average_precision  # noqa: E402
from detector import Detector  # noqa: E402

AGREEMENT_MIN = 0.97
INPUTS_MIN = 200
WITHIN = 0.05
SCORE_MIN = 0.05
TIMED_MAX = 40


@dataclass(frozen=True)
class Gate:
    """The result; `speed` is the float twin's usual CPU time over this one's, of the same run."""

    measures: dict[str, tuple[str, float]]
    images: int
    speed: float
    bytes: tuple[int, int]
    float_layers: tuple[str, ...]
    layers: int

    @property
    def agreement(self) -> float:
        """The lowest of the outputs'."""
        return min(value for _, value in self.measures.values())

    @property
    def measure(self) -> str:
        """What the agreement is."""
        return min(self.measures.values(), key=lambda pair: pair[1])[0]

    @property
    def passed(self) -> bool:
        """Whether it may be served."""
        return self.agreement >= AGREEMENT_MIN

    @property
    def is_float(self) -> bool:
        """Whether no layer was quantised."""
        return len(self.float_layers) == self.layers

    def text(self) -> str:
        """Return the result for people."""
        outputs = ", ".join(f"{name} {measure} {value:.4f}" for name, (measure, value) in self.measures.items())
        before, after = (size / 1e6 for size in self.bytes)
        kind = "float: no layer is INT8" if self.is_float else f"{len(self.float_layers)} of {self.layers} layers float"
        return (
            f"    {outputs} on {self.images} inputs; {self.speed:.2f} times the float twin's speed; "
            f"{before:.1f} MB to {after:.1f} MB; {kind}"
        )

    def toml(self, forced: bool = False) -> str:
        """Return the manifest's [quantized] section. The agreement is rounded down: none passes by rounding."""
        floor = int(self.agreement * 1e4) / 1e4
        layers = ", ".join(f'"{name}"' for name in self.float_layers)
        return (
            f'\n[quantized]\nagreement = {floor}\nmeasure = "{self.measure}"\nimages = {self.images}\n'
            f"speed = {self.speed:.2f}\nfloat_layers = [{layers}]\nforced = {str(forced).lower()}\n"
        )


def layers_of(path: Path) -> dict[str, bool]:
    """Return each layer with weights, and whether its weights are 8-bit ones."""
    graph = onnx.load(path).graph
    dequantised = {out for node in graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    kinds = ("Conv", "ConvTranspose", "Gemm", "MatMul")
    return {node.name: node.input[1] in dequantised for node in graph.node if node.op_type in kinds}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `a` with that of `b`."""
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def run(graph: Path, inputs: list[Input]) -> dict[str, np.ndarray]:
    """Return a graph's outputs: input x numbers, by name."""
    session = open_session(graph)
    names = [output.name for output in session.get_outputs()]
    input_name = session.get_inputs()[0].name
    results = [session.run(names, {input_name: one.tensor}) for one in inputs]
    return {name: np.stack([result[i][0].reshape(-1) for result in results]) for i, name in enumerate(names)}


def speed(float_graph: Path, int8_graph: Path, inputs: list[Input]) -> float:
    """Return the ratio of the median CPU times of two graphs that are run in turns."""
    sessions = [open_session(graph) for graph in (float_graph, int8_graph)]
    times = ([], [])
    for one in inputs[:TIMED_MAX]:
        for session, taken in zip(sessions, times, strict=True):
            started = time.process_time()
            session.run(None, {session.get_inputs()[0].name: one.tensor})
            taken.append(time.process_time() - started)
    return float(np.median(times[0]) / np.median(times[1]))


def ap50(manifest: dict, float_graph: Path, int8_graph: Path, inputs: list[Input]) -> float:
    """Return the AP50 against the float twin's detections, in one ranking of all classes.

    The float twin's are those that it is served with; of the INT8 graph those of lower scores count too, or
    each that came to lie just below the threshold would be called lost.
    """
    truth, found = {}, []
    detector = Detector(manifest, float_graph)
    for number, one in enumerate(inputs):
        for label in manifest["detector"]["labels"]:
            truth[f"{number} {label}"] = []
        for detection in detector.detect(one.frame):
            truth[f"{number} {detection.label}"].append(detection.box)
    if not any(truth.values()):
        raise SystemExit("quantise: the float model finds nothing in these images: give images of what it finds")
    lenient = manifest["detector"] | {"score_threshold": SCORE_MIN}
    detector = Detector(manifest | {"detector": lenient}, int8_graph)
    for number, one in enumerate(inputs):
        found += [(each.score, f"{number} {each.label}", each.box) for each in detector.detect(one.frame)]
    return average_precision(truth, found)


def of_output(kind: dict, wanted: np.ndarray, found: np.ndarray) -> tuple[str, float]:
    """Return the measure of one attribute output, and its value."""
    ((name, options),) = kind.items()
    if name in ("class", "classes"):
        return "top1", float((wanted.argmax(1) == found.argmax(1)).mean())
    if name == "binary":
        return "top1", float(((wanted > 0.5) == (found > 0.5)).all(1).mean())
    if name in ("number", "expectation"):
        if name == "expectation":
            bins = options["first"] + options["step"] * np.arange(wanted.shape[1])
            wanted, found = (values @ bins / values.sum(1) for values in (wanted, found))
        else:
            wanted, found = wanted[:, 0], found[:, 0]
        return "within", float((np.abs(found - wanted) <= WITHIN * np.abs(wanted)).mean())
    return "cosine", float(cosines(wanted, found).mean())


def measure(manifest: dict, float_graph: Path, int8_graph: Path, inputs: list[Input], int8) -> Gate:
    """Compare an INT8 graph with its float twin."""
    if "detector" in manifest and not int8.random:
        measures = {"detections": ("ap50", ap50(manifest, float_graph, int8_graph, inputs))}
    else:
        wanted, found = run(float_graph, inputs), run(int8_graph, inputs)
        outputs = manifest.get("attributes", {}).get("outputs", [])
        kinds = {output["tensor"]: output["kind"] for output in outputs}
        vector = {"vector": {}}
        measures = {
            name: of_output(vector if int8.random else kinds.get(name, vector), values, found[name])
            for name, values in wanted.items()
        }
    layers = layers_of(int8_graph)
    return Gate(
        measures,
        len(inputs),
        speed(float_graph, int8_graph, inputs),
        (float_graph.stat().st_size, int8_graph.stat().st_size),
        tuple(name for name, is_int8 in layers.items() if not is_int8),
        len(layers),
    )
