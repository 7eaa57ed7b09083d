"""Figures of results: medians of rounds, and the named figures, which are ratios within a round."""

from collections.abc import Callable, Iterable
from statistics import median

Results = list[dict]
"""What `__main__` writes: {"round", "workload", "peer", "measures": {name: {…}}} or with "error"."""


def values(results: Results, workload: str, peer: str, measure: str, field: str) -> list[float]:
    """Return a field's values, one a round that has it."""
    found = (
        entry["measures"].get(measure, {}).get(field)
        for entry in results
        if entry["workload"] == workload and entry["peer"] == peer and "measures" in entry
    )
    return [value for value in found if value is not None]


def cpu_ms_a_frame(measure: dict) -> float | None:
    """Return CPU milliseconds of a frame, server and client together."""
    if not measure.get("frames") or "server_cpu_s" not in measure:
        return None
    return 1000 * (measure["server_cpu_s"] + measure.get("client_cpu_s", 0.0)) / measure["frames"]


def add_cpu(results: Results) -> None:
    """Give each measure its CPU time a frame, as `cpu_ms_a_frame`."""
    for entry in results:
        for measure in entry.get("measures", {}).values():
            measure["cpu_ms_a_frame"] = cpu_ms_a_frame(measure)


def _by_round(results: Results, workload: str, measure: str, field: str) -> dict[str, dict[int, float]]:
    by_peer: dict[str, dict[int, float]] = {}
    for entry in results:
        value = entry.get("measures", {}).get(measure, {}).get(field)
        if entry["workload"] == workload and value:  # a zero is no measurement, and no ratio is made of it
            by_peer.setdefault(entry["peer"], {})[entry["round"]] = value
    return by_peer


def _median_over_rounds(by_peer: dict, peers: Iterable[str], of: Callable[..., float]) -> float | None:
    columns = [by_peer.get(peer, {}) for peer in peers]
    rounds = set.intersection(*(set(column) for column in columns))
    found = [of(*(column[number] for column in columns)) for number in rounds]
    return median(found) if found else None


_P50, _CPU, _FPS = "p50_ms", "cpu_ms_a_frame", "fps"
_RATIOS = [
    # figure, workload, measure, field, peer over which
    ("noop_p50_over_triton", "noop", "latency", _P50, "triton-shm"),
    ("noop_fps_over_triton", "noop", "throughput_batch8", _FPS, "triton-shm"),
    ("noop_fps_over_python_queues", "noop", "throughput_batch8", _FPS, "python-queues"),
    ("noop_fps_over_python_shm_8", "noop", "throughput_batch8", _FPS, "python-shm"),
    ("noop_fps_over_python_shm_32", "noop", "throughput_batch32", _FPS, "python-shm"),
    ("street_over_python_queues", "street", "throughput_batch1", _FPS, "python-queues"),
    ("street_over_python_shm", "street", "throughput_batch1", _FPS, "python-shm"),
    ("street_over_python_shm_half", "street", "throughput_batch1", _FPS, "python-shm-half"),
    ("street_over_triton", "street", "throughput_batch1", _FPS, "triton-shm"),
    ("faces3_over_python_queues", "faces3", "throughput_batch1", _FPS, "python-queues"),
    ("faces3_over_python_shm", "faces3", "throughput_batch1", _FPS, "python-shm"),
]
_PLAIN = [
    # figure, workload, measure, field
    ("noop_p50_ms", "noop", "latency", _P50),
    ("noop_fps_batch8", "noop", "throughput_batch8", _FPS),
    ("cpu_s_per_1000_frames_street", "street", "throughput_batch1", _CPU),
]


def named(results: Results) -> dict[str, float]:
    """Return the figures that could be measured, by their names."""
    figures = {
        name: _median_over_rounds(_by_round(results, workload, measure, field), ["framepipe"], lambda ours: ours)
        for name, workload, measure, field in _PLAIN
    }
    figures |= {
        name: _median_over_rounds(
            _by_round(results, workload, measure, field), ["framepipe", peer], lambda ours, theirs: ours / theirs
        )
        for name, workload, measure, field, peer in _RATIOS
    }
    figures["street_outside_engine_over_python_shm"] = _median_over_rounds(
        _by_round(results, "street", "throughput_batch1", _CPU),
        ["framepipe", "python-shm", "engine"],
        lambda ours, theirs, engine: (ours - engine) / (theirs - engine),
    )
    return {name: value for name, value in figures.items() if value is not None}
