"""How far an INT8 graph agrees with its float twin: one number for each output that is served, 1 where they are the same.

| what is served | measure | on |
|---|---|---|
| boxes of a detector | AP50 of its detections (scores from 0.05 on), the float twin's own (from the shipped threshold on) being the truth; mean over the classes that those have | 200 frames |
| a class | share of inputs with the same class | 200 crops or more |
| anything else of an attribute model, and every output of a model with random weights | mean cosine | 200 crops or more; 8 inputs |
"""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from calibration import MEASUREMENT_VARIANTS, frames, tensors
from paths import use_reference

use_reference()

from ap50 import average_precision  # noqa: E402
from detector import Detector  # noqa: E402
from session import open_session  # noqa: E402

# A model that agrees less does not ship as INT8.
GATE = 0.97
SCORE_LEAST = 0.05
SLOWEST_SHARE = 0.8


class Agreement(NamedTuple):
    """Of one output; `lowest` is that of the worst input, where each has one of its own."""

    output: str
    measure: str
    value: float
    lowest: float | None = None

    def __str__(self) -> str:
        """Say it in a line."""
        lowest = "" if self.lowest is None else f" (lowest {self.lowest:.4f})"
        return f"{self.output}: {self.measure} {self.value:.4f}{lowest}"


class Comparison(NamedTuple):
    """What comparing two graphs came to; times are CPU milliseconds of a run on one thread."""

    agreements: list[Agreement]
    inputs: int
    float_ms: float
    int8_ms: float

    def worst(self) -> float:
        """Return what the gate asks."""
        return min(agreement.value for agreement in self.agreements)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `a` with that of `b`."""
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def _run(graph: Path, inputs: list[np.ndarray]) -> tuple[dict[str, np.ndarray], float]:
    """Return a graph's outputs (input x numbers, by name) and its usual CPU milliseconds."""
    session = open_session(graph)
    names = [output.name for output in session.get_outputs()]
    input_name = session.get_inputs()[0].name
    results, times = [], []
    for tensor in inputs:
        started = time.process_time()
        results.append(session.run(names, {input_name: tensor}))
        times.append(time.process_time() - started)
    outputs = {name: np.stack([result[i][0].reshape(-1) for result in results]) for i, name in enumerate(names)}
    # The median of the undisturbed runs.
    return outputs, float(np.median(sorted(times)[: max(1, int(len(times) * SLOWEST_SHARE))])) * 1e3


def _of_class(values: np.ndarray) -> np.ndarray:
    """Return the class of each row: of one number, on which side of a half it is."""
    return values[:, 0] > 0.5 if values.shape[1] == 1 else values.argmax(1)


def _detected(manifest: dict, graph: Path, score_least: float, photos: list[np.ndarray]) -> list[list]:
    spec = manifest["detector"] | {"score_threshold": score_least}
    detector = Detector(manifest | {"detector": spec}, graph)
    return [detector.detect(photo) for photo in photos]


def _boxes(manifest: dict, float_graph: Path, int8_graph: Path) -> tuple[Agreement, int]:
    photos = [frame for frame, _ in frames(MEASUREMENT_VARIANTS)]
    threshold = manifest["detector"]["score_threshold"]
    wanted = _detected(manifest, float_graph, threshold, photos)
    found = _detected(manifest, int8_graph, min(SCORE_LEAST, threshold), photos)
    precisions = []
    for label in sorted({one.label for photo in wanted for one in photo}):
        truth = {str(at): [one.box for one in photo if one.label == label] for at, photo in enumerate(wanted)}
        scored = [
            (one.score, str(at), one.box) for at, photo in enumerate(found) for one in photo if one.label == label
        ]
        precisions.append(average_precision(truth, scored))
    return Agreement("boxes", "AP50", float(np.mean(precisions))), len(photos)


def compare(manifest: dict, float_graph: Path, int8_graph: Path, inputs_max: int | None) -> Comparison:
    """Run both graphs on the same inputs; `inputs_max` of them for a model with random weights."""
    is_random = inputs_max is not None
    needed = None if is_random or "attributes" in manifest else len(MEASUREMENT_VARIANTS)
    inputs = list(islice(_inputs(manifest), inputs_max or needed))
    (wanted, float_ms), (found, int8_ms) = _run(float_graph, inputs), _run(int8_graph, inputs)
    if "detector" in manifest and not is_random:
        boxes, count = _boxes(manifest, float_graph, int8_graph)
        return Comparison([boxes], count, float_ms, int8_ms)
    kinds = {one["tensor"]: next(iter(one["kind"])) for one in manifest.get("attributes", {}).get("outputs", [])}
    agreements = []
    for name, values in wanted.items():
        if not is_random and name not in kinds:
            continue
        if not is_random and kinds[name] in ("class", "binary"):
            same = _of_class(values) == _of_class(found[name])
            agreements.append(Agreement(name, "same class", float(same.mean())))
        else:
            similar = cosines(values, found[name])
            agreements.append(Agreement(name, "cosine", float(similar.mean()), float(similar.min())))
    return Comparison(agreements, len(inputs), float_ms, int8_ms)


def _inputs(manifest: dict) -> Iterator[np.ndarray]:
    return tensors(manifest, MEASUREMENT_VARIANTS)
