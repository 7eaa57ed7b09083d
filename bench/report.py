"""Makes tables (Markdown) and plots (SVG, PNG) of what scripts/bench-peers measured: report.py PEERS.json."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import matplotlib as mpl
import matplotlib.pyplot as plt
from harness.answers import IMAGE_TOLERANCE, PART_TOLERANCE
from harness.figures import failures, named, rounds, shares_of_limit, values
from harness.peers import PEERS
from harness.workloads import WORKLOADS, Workload

mpl.use("Agg")
# The same figures make the same file.
mpl.rcParams["svg.hashsalt"] = "framepipe"
OURS, THEIRS = "#c2410c", "#64748b"
MIB = 2**20


_CAVEATS = [
    '- framepipe (its default, `scale = "auto"`) and python-shm-half decode the JPEGs of `street` to half their sides,',
    "  all other peers to full size; with attribute models, in `faces`, all decode to full size.",
    "- Triton runs all its models in its Python backend, with ONNX Runtime inside: PyPI ships no onnxruntime backend.",
    "- mosec's stages hand their data over by its sockets; its mixins for shared memory are not used. Its last stage,",
    "  with attribute models, decodes the image again: 6 MB of pixels do not go from socket to socket.",
    "  mosec-path hands the image's bytes on from its first stage all the same.",
    "- LitServe and Ray Serve do a frame's whole work in one process, of which there are two.",
    "- Triton runs neither `faces` nor `paper`: no models were written for it.",
    "- Before it is measured, each peer is given each image once: it must find as many detections as framepipe's",
    f"  reference implementation, give or take {IMAGE_TOLERANCE} or {PART_TOLERANCE:.0%}, none where it finds none;",
    "  with attribute models, all of them must describe each. In each window the mean must be within",
    f"  {PART_TOLERANCE:.0%} of the reference's. Else it counts as not measured.",
]


class Report:
    """What was measured, as text and pictures."""

    def __init__(self, path: Path) -> None:
        """Read the results."""
        self._report = json.loads(path.read_text())
        self._results = self._report["results"]
        self._limits = self._report.get("limits", [])
        self._folder = path.parent
        self._workloads = [row for row in WORKLOADS.values() if any(self._peers(row))]

    def write(self) -> None:
        """Write peers.md and its plots."""
        lines = [*self._head(), *(line for workload in self._workloads for line in self._section(workload))]
        lines += [*self._figures(), *self._failures()]
        (self._folder / "peers.md").write_text("\n".join(lines).rstrip() + "\n")

    def _peers(self, workload: Workload) -> Iterator[str]:
        measured = {entry["peer"] for entry in self._results if entry["workload"] == workload.name}
        return (name for name in PEERS if name in measured)

    def _measures(self, workload: Workload) -> list[str]:
        names = {}
        for entry in self._results:
            if entry["workload"] == workload.name:
                names |= dict.fromkeys(entry.get("measures", {}))
        return list(names)

    def _values(self, workload: Workload, peer: str, measure: str, field: str) -> list[float]:
        return values(self._results, workload.name, peer, measure, field)

    def _cell(self, found: list[float], digits: int = 1, scale: float = 1.0) -> str:
        """Return the median, and from where to where the rounds' values go."""
        if not found:
            return "-"
        low, middle, high = (f"{number / scale:,.{digits}f}" for number in (min(found), median(found), max(found)))
        return middle if low == high else f"**{middle}** ({low} to {high})"

    def _head(self) -> list[str]:
        report = self._report
        versions = (f"{name}: {', '.join(rows)}" for name, rows in report["versions"].items() if rows)
        return [
            "# framepipe and its peers, measured",
            "",
            "Written by `bench/report.py`; `bench/harness/peers.py` and `workloads.py` say what is compared, and how.",
            "Medians of the rounds, and from where to where they go. CPU time is that of server and client together,",
            "memory the server's proportional set size, taken once, right behind the window, while the load goes on.",
            "",
            *_CAVEATS,
            "",
            f"- machine: {report['machine']}, Linux {report['kernel']}, Python {report['python']}",
            f"- date: {report['date']}; commit: {report['commit'][:12]}",
            f"- command: `{report['command']}`; {report['rounds']} rounds, windows of {report['seconds']:g} s",
            f"- other processes took {self._others():.0%} of the cores (median of the windows)",
            *(f"- {line}" for line in versions),
            "",
        ]

    def _others(self) -> float:
        shares = [
            measure["others_share"]
            for entry in self._results
            for measure in entry.get("measures", {}).values()
            if "others_share" in measure
        ]
        return median(shares) if shares else 0.0

    def _section(self, workload: Workload) -> Iterator[str]:
        yield from (f"## {workload.name}: {workload.about}", "")
        measures = self._measures(workload)
        plain = [name for name in measures if name.startswith(("latency", "throughput"))]
        if plain:
            yield from self._table(workload, plain)
            yield from self._bars(workload, [name for name in plain if name != "latency"])
        if tails := [name for name in measures if name.startswith("tail")]:
            yield from self._tails(workload, tails)
        if "recovery" in measures:
            yield from self._recovery(workload)

    def _table(self, workload: Workload, measures: list[str]) -> Iterator[str]:
        heads, columns = ["peer"], []
        for name in measures:
            batch = name.rpartition("batch")[2]
            if name == "latency":
                heads += ["p50, one at a time, ms", "p99"]
                columns += [(name, "p50_ms", 2, 1), (name, "p99_ms", 2, 1)]
            else:
                heads += [f"frames/s, batch {batch}", "CPU ms a frame"]
                columns += [(name, "fps", 1, 1), (name, "cpu_ms_a_frame", 3, 1)]
        heads.append("memory, MiB")
        columns.append((measures[-1], "pss_bytes", 0, MIB))
        limits = [one for one in self._limits if one["workload"] == workload.name]
        if limits:
            heads.append("share of the INT8 limit")
            yield from self._limit(limits)
        if floors := self._values(workload, "engine", measures[-1], "jpeg_floor_ms"):
            yield "libjpeg-turbo's decode of the frames to an eighth of their sides, which is little else than entropy"
            yield f"decoding, beside the engine in each round: {self._cell(floors, 2)} ms of CPU."
            yield ""
        yield f"| {' | '.join(heads)} |"
        yield f"|{'---|' * len(heads)}"
        for peer in self._peers(workload):
            cells = [self._cell(self._values(workload, peer, *column[:2]), *column[2:]) for column in columns]
            if limits:
                shares = shares_of_limit(limits, self._results, workload.name, peer, measures[-1])
                cells.append(self._cell(shares, 3))
            yield f"| {peer} | {' | '.join(cells)} |"
        yield ""

    def _limit(self, limits: list[dict]) -> Iterator[str]:
        rates, of_frame = self._cell([one["gmac_per_s"] for one in limits], 0), limits[-1]["gmac_a_frame"]
        yield f"The cores' INT8 limit, measured before the peers of each round (`scripts/peak_int8.c`): {rates} GMAC/s"
        yield f"with {limits[-1]['instructions']}; a frame takes {of_frame:.2f} GMAC."
        yield ""

    def _bars(self, workload: Workload, measures: list[str]) -> Iterator[str]:
        if not measures:
            return
        figure, axes = plt.subplots(1, len(measures), figsize=(5 * len(measures), 3.2), squeeze=False)
        for axis, measure in zip(axes[0], measures, strict=True):
            found = {peer: self._values(workload, peer, measure, "fps") for peer in self._peers(workload)}
            found = {peer: fps for peer, fps in found.items() if fps}
            for place, (peer, fps) in enumerate(found.items()):
                middle = median(fps)
                spread = [[middle - min(fps)], [max(fps) - middle]]
                colour = OURS if peer == "framepipe" else THEIRS
                axis.barh(place, middle, xerr=spread, color=colour, ecolor="black", capsize=3)
            axis.set_yticks(range(len(found)), list(found))
            axis.invert_yaxis()
            axis.set_xlabel("frames/s")
            axis.set_title(f"{workload.name}, {measure.replace('_', ' ')}", fontsize=10)
        yield from self._saved(figure, f"peers-{workload.name}", f"frames/s of {workload.name}")

    def _tails(self, workload: Workload, tails: list[str]) -> Iterator[str]:
        yield "Latency from when a frame was due (Poisson arrivals), at parts of each peer's own throughput, ms. All"
        yield "frames count that were due in the window; one that was given up has the latency that it had reached."
        yield "The last column has the frames without a result: lost, failed or refused, all loads together."
        yield ""
        heads = [f"{tail.removeprefix('tail_')}%: {part}" for tail in tails for part in ("p50", "p99")]
        heads.append("no result")
        yield f"| peer | {' | '.join(heads)} |"
        yield f"|{'---|' * (1 + len(heads))}"
        figure, axis = plt.subplots(figsize=(6, 3.5))
        for peer in self._peers(workload):
            columns = [self._values(workload, peer, tail, field) for tail in tails for field in ("p50_ms", "p99_ms")]
            if not any(columns):
                continue
            none = [
                self._values(workload, peer, tail, field) for tail in tails for field in ("lost", "failed", "refused")
            ]
            yield f"| {peer} | {' | '.join(map(self._cell, columns))} | {sum(map(sum, none))} |"
            points = [(tail, self._values(workload, peer, tail, "p99_ms")) for tail in tails]
            points = [(int(tail.removeprefix("tail_")), median(found)) for tail, found in points if found]
            style = {"color": OURS, "linewidth": 2.5} if peer == "framepipe" else {}
            axis.plot(*zip(*points, strict=True), marker="o", label=peer, **style)
        yield ""
        axis.set_xlabel("load, % of the peer's own throughput")
        axis.set_ylabel("p99, ms")
        axis.set_yscale("log")
        axis.legend(fontsize=7)
        yield from self._saved(figure, f"peers-{workload.name}-tail", "p99 by load")

    def _recovery(self, workload: Workload) -> Iterator[str]:
        yield "A process of detect is killed (SIGKILL) every 5 s:"
        yield ""
        yield "| peer | frames/s | kills | frames lost | failed | refused |"
        yield "|---|---|---|---|---|---|"
        entries = [
            (entry["peer"], entry["measures"]["recovery"])
            for entry in self._results
            if entry["workload"] == workload.name and "timeline_fps" in entry.get("measures", {}).get("recovery", {})
        ]
        peers = [peer for peer in PEERS if any(name == peer for name, _ in entries)]
        for peer in peers:
            mine = [one for name, one in entries if name == peer]
            cells = [self._cell([one["fps"] for one in mine]), self._cell([len(one["kills_s"]) for one in mine], 0)]
            cells += [self._cell([one[field] for one in mine], 0) for field in ("lost", "failed", "refused")]
            yield f"| {peer} | {' | '.join(cells)} |"
        yield ""
        figure, axes = plt.subplots(len(peers), 1, figsize=(7, 1.3 * len(peers) + 0.6), sharex=True, squeeze=False)
        for axis, peer in zip(axes[:, 0], peers, strict=True):
            last = next(one for name, one in reversed(entries) if name == peer)
            bins = last["timeline_fps"]
            whole = [sum(bins[start : start + 5]) / 5 for start in range(0, len(bins) - 4, 5)]
            axis.step([place / 2 for place in range(len(whole))], whole, color=OURS if peer == "framepipe" else THEIRS)
            for kill in last["kills_s"]:
                axis.axvline(kill, color="black", linewidth=0.7, linestyle=":")
            axis.set_ylabel(peer, fontsize=7)
            axis.set_ylim(bottom=0)
        axes[-1, 0].set_xlabel("seconds; dotted: a process of detect is killed; up: frames/s")
        yield from self._saved(figure, f"peers-{workload.name}-recovery", "throughput while processes are killed")

    def _figures(self) -> Iterator[str]:
        figures = named(self._results)
        if figures:
            yield from ("## Figures", "", "| figure | | rounds |", "|---|---|---|")
            had = {name: f"{count} of {asked}" for name, (count, asked) in rounds(self._results).items()}
            yield from (f"| `{name}` | {value:,.3f} | {had[name]} |" for name, value in figures.items())
            yield ""

    def _failures(self) -> Iterator[str]:
        failed = failures(self._results)
        if failed:
            yield from ("## Not measured", "")
            yield from (f"- {failure}" for failure in failed)

    def _saved(self, figure: plt.Figure, name: str, about: str) -> Iterator[str]:
        figure.tight_layout()
        figure.savefig(self._folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(self._folder / f"{name}.png", dpi=120)
        plt.close(figure)
        yield from (f"![{about}]({name}.svg)", "")


if __name__ == "__main__":
    Report(Path(sys.argv[1])).write()
