"""Whether an INT8 graph comes near enough to its float twin to be served, and how much faster it is.

The measures are those of agreement.py; the lowest output's is the model's agreement. Of random weights it is the
cosine of each output, whatever the manifest makes of it.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from agreement import SCORE_MIN, Agreement, ap50, boxes_of, of_output
from onnx_graph import LAYERS
from paths import use_reference
from toml_text import toml_value

use_reference()

from session import open_session  # noqa: E402

AGREEMENT_MIN = 0.97
INPUTS_MIN = 200
TIMED_MAX = 40


@dataclass(frozen=True)
class Gate:
    """The result; `speed` is the float twin's CPU time over this one's in the same run, None for another device."""

    outputs: dict[str, Agreement]
    inputs: int
    speed: float | None
    bytes: tuple[int, int]
    float_layers: tuple[str, ...]
    layers: int
    target: str

    @property
    def agreement(self) -> float:
        """The lowest of the outputs'."""
        return min(output.value for output in self.outputs.values())

    @property
    def measure(self) -> str:
        """What the agreement is."""
        return min(self.outputs.values(), key=lambda output: output.value).measure

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
        outputs = ", ".join(f"{name} {output.measure} {output.value:.4f}" for name, output in self.outputs.items())
        before, after = (size / 1e6 for size in self.bytes)
        kind = "float: no layer is INT8" if self.is_float else f"{len(self.float_layers)} of {self.layers} layers float"
        speed = "" if self.speed is None else f"; {self.speed:.2f} times the float twin's speed"
        return f"    {outputs} on {self.inputs} inputs{speed}; {before:.1f} MB to {after:.1f} MB; {kind}"

    def toml(self, forced: bool = False) -> str:
        """Return the manifest's [quantized] section. The agreement is rounded down: none passes by rounding.

        A cosine below 0 is 0 there.
        """
        floor = max(0, int(self.agreement * 1e4)) / 1e4
        speed = "" if self.speed is None else f"speed = {self.speed:.2f}\n"
        return (
            f'\n[quantized]\ntarget = "{self.target}"\nagreement = {floor}\nmeasure = "{self.measure}"\n'
            f"images = {self.inputs}\n{speed}float_layers = {toml_value(self.float_layers)}\n"
            f"forced = {toml_value(forced)}\n"
        )

    def report(self) -> dict:
        """Return the result for programs."""
        outputs = {
            name: {"measure": output.measure, "value": output.value} | output.detail
            for name, output in self.outputs.items()
        }
        return {
            "measured": datetime.now(UTC).date().isoformat(),
            "agreement": self.agreement,
            "measure": self.measure,
            "passed": self.passed,
            "inputs": self.inputs,
            "outputs": outputs,
            "speed": self.speed,
            "bytes": {"float": self.bytes[0], "int8": self.bytes[1]},
            "layers": self.layers,
            "float_layers": self.float_layers,
            "precision": "float" if self.is_float else "int8",
        }


class Twin:
    """A float graph, and what it says of some inputs."""

    def __init__(self, manifest: dict, graph: Path, tensors: list[np.ndarray], random: bool = False):
        """Run the float graph."""
        self.manifest, self.graph, self.tensors = manifest, graph, tensors
        self.is_detector = "detector" in manifest and not random
        outputs = [] if random else manifest.get("attributes", {}).get("outputs", [])
        self.kinds = {output["tensor"]: output["kind"] for output in outputs}
        if self.is_detector:
            self.threshold = manifest["detector"]["score_threshold"]
            self.truth = boxes_of(manifest, graph, tensors, self.threshold)

    def agreements(self, int8_graph: Path, target: str) -> dict[str, Agreement]:
        """Compare each output of an INT8 graph."""
        fused = target == "cpu"
        if self.is_detector:
            found = boxes_of(self.manifest, int8_graph, self.tensors, min(SCORE_MIN, self.threshold), fused)
            return {"detections": ap50(self.truth, found, self.threshold)}
        wanted, found = run(self.graph, self.tensors), run(int8_graph, self.tensors, fused)
        spec = self.manifest["spec"]
        size, charsets = (spec["width"], spec["height"]), self.manifest.get("charsets", {})
        names = self.kinds or wanted
        return {
            name: of_output(
                self.kinds.get(name, {"vector": {}}),
                np.stack(wanted[name]),
                np.stack(found[name]),
                size,
                charsets.get(name, ()),
            )
            for name in names
        }


def layers_of(path: Path) -> dict[str, bool]:
    """Return each layer with weights, and whether its weights are 8-bit ones."""
    graph = onnx.load(path).graph
    dequantised = {out for node in graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    return {node.name: node.input[1] in dequantised for node in graph.node if node.op_type in LAYERS}


def run(graph: Path, tensors: list[np.ndarray], fused: bool = True) -> dict[str, list[np.ndarray]]:
    """Return a graph's outputs, by name: the numbers of each input in a row."""
    session = open_session(graph, fused)
    names = [output.name for output in session.get_outputs()]
    (given,) = session.get_inputs()
    has_batch = len(given.shape) == 4
    results = [session.run(names, {given.name: tensor if has_batch else tensor[0]}) for tensor in tensors]
    return {name: [result[i].reshape(-1) for result in results] for i, name in enumerate(names)}


def speed(float_graph: Path, int8_graph: Path, tensors: list[np.ndarray]) -> float:
    """Return the ratio of the median CPU times of two graphs that are run in turns."""
    sessions = [open_session(graph) for graph in (float_graph, int8_graph)]
    times = ([], [])
    for tensor in tensors[:TIMED_MAX]:
        for session, taken in zip(sessions, times, strict=True):
            (given,) = session.get_inputs()
            started = time.process_time()
            session.run(None, {given.name: tensor if len(given.shape) == 4 else tensor[0]})
            taken.append(time.process_time() - started)
    return float(np.median(times[0]) / np.median(times[1]))


def measure(twin: Twin, int8_graph: Path, target: str) -> Gate:
    """Compare an INT8 graph with its float twin."""
    layers = layers_of(int8_graph)
    return Gate(
        twin.agreements(int8_graph, target),
        len(twin.tensors),
        speed(twin.graph, int8_graph, twin.tensors) if target == "cpu" else None,
        (twin.graph.stat().st_size, int8_graph.stat().st_size),
        tuple(name for name, is_int8 in layers.items() if not is_int8),
        len(layers),
        target,
    )
