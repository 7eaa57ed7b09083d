"""Figures of results: medians of rounds, and the named figures, which are ratios within a round."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import truediv
from statistics import median

Results = list[dict]
"""What `__main__` writes: {"round", "workload", "peer", "asked": [name], "measures": {name: {…}}} or with "error".

A measure that could not be taken has an "error", too, and no value.
"""


def values(results: Results, workload: str, peer: str, measure: str, field: str) -> list[float]:
    """Return a field's values, one a round that has it."""
    found = (
        entry["measures"].get(measure, {}).get(field)
        for entry in results
        if entry["workload"] == workload and entry["peer"] == peer and "measures" in entry
    )
    return [value for value in found if value is not None]


def shares_of_limit(limits: list[dict], results: Results, workload: str, peer: str, measure: str) -> list[float]:
    """Return which part of the cores' INT8 limit the models' work is, one a round in which the limit was measured."""
    by_round = {one["round"]: one["gmac_a_frame"] / one["gmac_per_s"] for one in limits if one["workload"] == workload}
    return [
        entry["measures"][measure]["fps"] * by_round[entry["round"]]
        for entry in results
        if (entry["workload"], entry["peer"]) == (workload, peer)
        and entry["round"] in by_round
        and "fps" in entry.get("measures", {}).get(measure, {})
    ]


def cpu_ms_a_frame(measure: dict) -> float | None:
    """Return CPU milliseconds of a frame, server and client together."""
    if not measure.get("frames") or "server_cpu_s" not in measure:
        return None
    return 1000 * (measure["server_cpu_s"] + measure.get("client_cpu_s", 0.0)) / measure["frames"]


def add_cpu(results: Results) -> None:
    """Give each measure its CPU time a frame, as `cpu_ms_a_frame`; with the least of decoding, `cpu_floor_ms`."""
    for entry in results:
        for measure in entry.get("measures", {}).values():
            measure["cpu_ms_a_frame"] = cpu = cpu_ms_a_frame(measure)
            if cpu and "jpeg_floor_ms" in measure:
                measure["cpu_floor_ms"] = cpu + measure["jpeg_floor_ms"]


def failures(results: Results) -> list[str]:
    """Return what could not be measured, and the first words of why."""
    found = []
    for entry in results:
        what = f"round {entry['round'] + 1}, {entry['workload']}, {entry['peer']}"
        if "error" in entry:
            found.append(f"{what}: {entry['error'].strip().splitlines()[0]}")
            continue
        for name in entry["asked"]:
            measure = entry["measures"].get(name, {"error": "nothing was said of it"})
            if "error" in measure:
                found.append(f"{what}, {name}: {measure['error']}")
    return found


@dataclass(frozen=True)
class Figure:
    """A row: the median, over the rounds, `of` a measure's field of some peers; or of fields, one for each of them."""

    name: str
    workload: str
    measure: str
    field: str | tuple[str, ...]
    peers: tuple[str, ...] = ("framepipe",)
    of: Callable[..., float] = lambda ours: ours

    def rounds(self, results: Results) -> set[int]:
        """Return the rounds in which all of its peers were asked."""
        asked = [
            {entry["round"] for entry in self._entries(results, peer) if self.measure in entry["asked"]}
            for peer in self.peers
        ]
        return set.intersection(*asked)

    def values(self, results: Results) -> dict[int, float]:
        """Return its value in each round that has one: a zero is no measurement, and no ratio is made of it."""
        columns = []
        fields = (self.field,) * len(self.peers) if isinstance(self.field, str) else self.field
        for peer, field in zip(self.peers, fields, strict=True):
            found = {
                entry["round"]: entry.get("measures", {}).get(self.measure, {}).get(field)
                for entry in self._entries(results, peer)
            }
            columns.append({number: value for number, value in found.items() if value})
        rounds = sorted(set.intersection(*(set(column) for column in columns)))
        return {number: self.of(*(column[number] for column in columns)) for number in rounds}

    def _entries(self, results: Results, peer: str) -> list[dict]:
        return [entry for entry in results if (entry["workload"], entry["peer"]) == (self.workload, peer)]


def _over(name: str, workload: str, measure: str, field: str, peer: str) -> Figure:
    return Figure(name, workload, measure, field, ("framepipe", peer), truediv)


def _outside_engine_over(name: str, peer: str) -> Figure:
    return Figure(
        name,
        "street",
        "throughput_batch1",
        _CPU,
        ("framepipe", peer, "engine"),
        lambda ours, theirs, engine: (ours - engine) / (theirs - engine),
    )


_P50, _CPU, _FPS = "p50_ms", "cpu_ms_a_frame", "fps"
FIGURES = [
    Figure("noop_p50_ms", "noop", "latency", _P50),
    Figure("noop_fps_batch8", "noop", "throughput_batch8", _FPS),
    Figure("cpu_s_per_1000_frames_street", "street", "throughput_batch1", _CPU),
    Figure(
        "street_cpu_over_floor",
        "street",
        "throughput_batch1",
        (_CPU, "cpu_floor_ms"),
        ("framepipe", "engine"),
        truediv,
    ),
    _over("noop_p50_over_triton", "noop", "latency", _P50, "triton-shm"),
    _over("noop_fps_over_triton", "noop", "throughput_batch8", _FPS, "triton-shm"),
    _over("noop_fps_over_python_queues", "noop", "throughput_batch8", _FPS, "python-queues"),
    _over("noop_fps_over_python_shm_8", "noop", "throughput_batch8", _FPS, "python-shm"),
    _over("noop_fps_over_python_shm_32", "noop", "throughput_batch32", _FPS, "python-shm"),
    _over("street_over_python_queues", "street", "throughput_batch1", _FPS, "python-queues"),
    _over("street_over_python_shm", "street", "throughput_batch1", _FPS, "python-shm"),
    _over("street_over_python_shm_half", "street", "throughput_batch1", _FPS, "python-shm-half"),
    _over("street_over_triton", "street", "throughput_batch1", _FPS, "triton-shm"),
    _over("faces3_over_python_queues", "faces3", "throughput_batch1", _FPS, "python-queues"),
    _over("faces3_over_python_shm", "faces3", "throughput_batch1", _FPS, "python-shm"),
    _outside_engine_over("street_outside_engine_over_python_shm", "python-shm"),
    _outside_engine_over("street_outside_engine_over_python_shm_half", "python-shm-half"),
]


def named(results: Results) -> dict[str, float]:
    """Return the figures that could be measured, by their names."""
    found = {figure.name: figure.values(results) for figure in FIGURES}
    return {name: median(by_round.values()) for name, by_round in found.items() if by_round}


def rounds(results: Results) -> dict[str, tuple[int, int]]:
    """Return in how many rounds each figure has a value, and in how many it was asked for."""
    asked = {figure: len(figure.rounds(results)) for figure in FIGURES}
    return {figure.name: (len(figure.values(results)), count) for figure, count in asked.items() if count}


def incomplete(results: Results) -> list[str]:
    """Return which figures lack rounds."""
    return [
        f"{name} has {had} of {asked} rounds: in the others a value is missing"
        for name, (had, asked) in rounds(results).items()
        if had < asked
    ]
