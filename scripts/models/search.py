"""Searches the settings with which a float graph becomes INT8 and passes the gate, with as few float layers as it can.

Three ends of the graph are left float in turn: nothing, what comes after the last layers, and these layers too. Of
three calibrations of each, the one that comes nearest on the calibration's inputs goes to the gate, which has others,
and the first that passes is taken. Where none does, the one that came nearest at the gate leaves more and more layers
float, the most sensitive first: those whose being float alone brings the outputs nearest. Nothing in it is drawn at
random. Every trial is kept for the report.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from agreement import UnmeasurableError
from gate import Gate, Twin, measure, run
from quantise import METHODS, Graph, calibrate, left_float, quantise
from shipped import Int8

# Of the calibration's inputs, for each layer's own trial.
LAYER_INPUTS_MAX = 16
STEPS = 10
# In place of an agreement that the calibration's inputs cannot tell, so that cosines decide.
UNKNOWN = 0.0
# The cosine of numbers that are none.
FARTHEST = -1.0


@dataclass(frozen=True)
class Found:
    """What a search came to: the settings, what the gate says of them, and every trial."""

    int8: Int8
    gate: Gate
    trials: list[dict]

    def report(self) -> dict:
        """Return it for programs."""
        settings = {"calibration": self.int8.method, "left_float": end_of(self.int8)}
        return settings | self.gate.report() | {"trials": self.trials}


def end_of(int8: Int8) -> str:
    """Return what of a graph's end stays float."""
    if int8.keep_head_float:
        return "last layers"
    return "after the last layers" if int8.keep_end_float else "nothing"


def nearness(wanted: dict[str, list], found: dict[str, list]) -> float:
    """Return the lowest mean cosine of an output; of rows whose count differs, missing ones are zeroes."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        size = max(a.size, b.size)
        a, b = (np.pad(one.astype(np.float64), (0, size - one.size)) for one in (a, b))
        value = float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
        return value if np.isfinite(value) else FARTHEST

    pairs = {name: zip(values, found[name], strict=True) for name, values in wanted.items()}
    return min(float(np.mean([cosine(*pair) for pair in of_output])) for of_output in pairs.values())


class Search:
    """One float graph, and what is tried on it; `folder` takes the graphs."""

    def __init__(
        self, twin: Twin, calibration: Twin, start: Int8, target: str, folder: Path, tell: Callable[[str], None]
    ):
        """`twin` has the gate's inputs, `calibration` its own; `start` bounds what is tried; `tell` takes progress."""
        self.twin, self.calibration, self.start, self.target = twin, calibration, start, target
        self.source, self.graph, self.tell = twin.graph, folder / "model.onnx", tell
        self.ranges = {method: folder / f"ranges-{method}.json" for method in METHODS}
        self.few = calibration.tensors[:LAYER_INPUTS_MAX]
        self.trials = []

    def _make(self, int8: Int8) -> None:
        quantise(self.source, self.graph, self.ranges[int8.method], int8, self.target)

    def _note(self, int8: Int8, inputs: str, **found) -> None:
        layers = list(int8.float_layers)
        self.trials.append(
            {"calibration": int8.method, "left_float": end_of(int8), "float_layers": layers, "inputs": inputs} | found
        )

    def _cosine(self, int8: Int8, wanted: dict) -> float:
        """Quantise, and compare all numbers that come out."""
        self._make(int8)
        return nearness(wanted, run(self.graph, self.few, self.target == "cpu"))

    def _gate(self, int8: Int8) -> Gate:
        """Quantise and measure."""
        self._make(int8)
        gate = measure(self.twin, self.graph, self.target)
        result = gate.report()
        self._note(int8, "gate", **{key: result[key] for key in ("agreement", "passed", "speed", "outputs")})
        words = f"gate: {int8.method}, float: {end_of(int8)}, and {len(int8.float_layers)} layers"
        self.tell(f"{words}:\n{gate.text()}")
        return gate

    def _starts(self) -> list[Int8]:
        """Return the settings that leave the graph's end float, as far as they differ."""
        ends = [self.start, replace(self.start, keep_end_float=True), replace(self.start, keep_head_float=True)]
        distinct = {tuple(left_float(self.source, end)): end for end in reversed(ends)}
        return list(reversed(distinct.values()))

    def _compare(self, int8: Int8, wanted: dict) -> tuple[float, float]:
        """Return agreement and cosine on the calibration's inputs, UNKNOWN where they cannot tell it."""
        cosine = self._cosine(int8, wanted)
        try:
            outputs = self.calibration.agreements(self.graph, self.target)
            agreement = min(output.value for output in outputs.values())
        except UnmeasurableError:
            agreement = None
        self._note(int8, "calibration", agreement=agreement, cosine=cosine)
        words = "unknown" if agreement is None else f"{agreement:.4f}"
        self.tell(f"{int8.method}, float: {end_of(int8)}: agreement {words}, cosine {cosine:.5f} (calibration)")
        return UNKNOWN if agreement is None else agreement, cosine

    def best(self) -> Found:
        """Return the first settings that pass, be it with all layers float."""
        wanted = run(self.source, self.few)
        for method, ranges in self.ranges.items():
            self.tell(f"calibrating: {method}, {len(self.calibration.tensors)} inputs")
            calibrate(self.source, ranges, self.calibration.tensors, method, self.target)
        tried = {}
        for start in self._starts():
            found = {method: self._compare(replace(start, method=method), wanted) for method in METHODS}
            int8 = replace(start, method=max(found, key=found.get))
            gate = self._gate(int8)
            if gate.passed:
                return Found(int8, gate, self.trials)
            tried[int8] = gate.agreement
        return self._by_layers(max(tried, key=tried.get), wanted)

    def _by_layers(self, int8: Int8, wanted: dict) -> Found:
        """Leave more and more layers float."""
        end = set(left_float(self.source, int8))
        layers = [layer for layer in Graph.read(self.source).layers if layer not in end]
        alone, started = {}, time.monotonic()
        for number, layer in enumerate(layers, 1):
            one = replace(int8, float_layers=(layer,))
            alone[layer] = self._cosine(one, wanted)
            self._note(one, "calibration", cosine=alone[layer])
            left = (time.monotonic() - started) / number * (len(layers) - number)
            self.tell(f"layer {number} of {len(layers)}, {layer}, float: cosine {alone[layer]:.5f}; {left:.0f} s left")
        ranked = sorted(layers, key=lambda layer: -alone[layer])
        step = max(1, len(layers) // STEPS)
        for count in [*range(step, len(layers), step), len(layers)]:
            chosen = set(ranked[:count])
            int8 = replace(int8, float_layers=tuple(layer for layer in layers if layer in chosen))
            gate = self._gate(int8)
            if gate.passed:
                break
        return Found(int8, gate, self.trials)


def settings_of(int8: Int8) -> str:
    """Return the settings as shipped.py writes them."""
    default = asdict(Int8())
    return f"Int8({', '.join(f'{key}={value!r}' for key, value in asdict(int8).items() if value != default[key])})"
