"""Measures framepipe and its peers, in turn, several rounds. scripts/bench-peers has the options' meaning."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from harness import figures, machine, session
from harness.limit import Limit, LimitError
from harness.peers import PEERS, ROOT, Peer, Place
from harness.ports import free_port
from harness.workloads import WORKLOADS, Workload, measures

WARMUP_SHARE = 0.3
WARMUP_S_MAX = 4.0


def chosen(table: dict, names: str, what: str) -> list:
    """Return the rows of a table that are named by commas; all without names."""
    asked = [name for name in names.split(",") if name] or list(table)
    unknown = [name for name in asked if name not in table]
    if unknown:
        sys.exit(f"bench-peers: no {what} {', '.join(unknown)}; there are {', '.join(table)}")
    return [table[name] for name in asked]


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="harness", description=__doc__)
    parser.add_argument("--only", default="", help="peers, by commas")
    parser.add_argument("--workload", default="", help="workloads, by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--measure", default="", help="measures, by commas, such as latency,throughput_batch8")
    parser.add_argument("--environments", type=Path, required=True)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True, help="JSON, written anew after each peer")
    parser.add_argument("--json", type=Path, help="also the named figures, one flat object")
    parser.add_argument("--command", default="", help="what was typed, for the results")
    return parser.parse_args()


def made_material(arguments: argparse.Namespace, inbox: Path, workloads: list[Workload]) -> dict:
    """Make the images of the workloads, and count what the reference finds in them."""
    program = [str(arguments.environments / "venv-python-design/bin/python"), "-m", "harness.material"]
    command = [*program, str(inbox), str(ROOT / "models"), str(ROOT / "photos"), *(one.name for one in workloads)]
    path = {"PYTHONPATH": f"{ROOT / 'bench'}:{ROOT / 'tests/reference'}"}
    made = subprocess.run(
        command, cwd=ROOT / "bench", env=os.environ | path, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(made.stdout)


def made_limit(folder: Path, workloads: list[Workload]) -> Limit | None:
    """Return what measures the cores' limit, where that can be had and is wanted; it was tried."""
    if not workloads:
        return None
    try:
        limit = Limit(folder)
        for workload in workloads:
            limit.measure(workload)
    except LimitError as error:
        print(f"  the cores' INT8 limit is not measured: {error}", flush=True)
        return None
    return limit


def limits_of(limit: Limit, workload: Workload, number: int) -> list[dict]:
    """Return the limit in this round; nothing where it fails: the peers are measured all the same."""
    try:
        return [{"round": number} | limit.measure(workload)]
    except LimitError as error:
        print(f"  the cores' INT8 limit is not measured in this round: {error}", flush=True)
        return []


def line(peer: Peer, measured: dict[str, dict]) -> str:
    """Return what was measured of a peer, for people."""
    parts = []
    for name, values in measured.items():
        cpu = figures.cpu_ms_a_frame(values)
        shown = [
            "failed: " + values["error"] if "error" in values else "",
            f"{values['fps']:.1f}/s" if "fps" in values and name != "latency" else "",
            f"p50 {values['p50_ms']:.2f} ms" if values.get("p50_ms") else "",
            f"p99 {values['p99_ms']:.2f} ms" if name.startswith(("latency", "tail")) and values.get("p99_ms") else "",
            f"CPU {cpu:.2f} ms" if cpu else "",
            f"lost {values['lost']}" if values.get("lost") else "",
            f"failed {values['failed']}" if values.get("failed") else "",
            f"{len(values['kills_s'])} kills" if "kills_s" in values else "",
            f"others {values['others_share']:.0%}" if values.get("others_share", 0) > 0.1 else "",
        ]
        parts.append(f"{name} " + ", ".join(part for part in shown if part))
    return f"  {peer.name:16} " + "; ".join(parts)


def main() -> None:
    """Run the command line."""
    # So that servers end and folders go, whoever ends this program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench-peers: ended by SIGTERM"))
    arguments = parsed()
    peers, workloads = chosen(PEERS, arguments.only, "peer"), chosen(WORKLOADS, arguments.workload, "workload")
    wanted = {name for name in arguments.measure.split(",") if name}
    report = machine.described() | {"command": arguments.command, "rounds": arguments.rounds}
    report |= {"seconds": arguments.seconds, "limits": [], "results": []}
    with (
        tempfile.TemporaryDirectory(prefix="bench-peers.", dir="/dev/shm") as memory,
        tempfile.TemporaryDirectory(prefix="bench-peers.") as folder,
    ):
        inbox = Path(memory) / "inbox"
        inbox.mkdir()
        print("making images ...", flush=True)
        made = made_material(arguments, inbox, workloads)
        limit = made_limit(Path(folder), [workload for workload in workloads if workload.is_limited])
        for number in range(arguments.rounds):
            for workload in workloads:
                print(f"round {number + 1} of {arguments.rounds}, {workload.name}: {workload.about}", flush=True)
                plan = measures(workload, arguments.seconds, min(WARMUP_S_MAX, WARMUP_SHARE * arguments.seconds))
                # A peer that is left out of `wanted` may be what another measure's rate comes from.
                needed = wanted | {one["of"] for one in plan if one["name"] in wanted and "of" in one}
                plan = [one for one in plan if not wanted or one["name"] in needed]
                if limit and workload.is_limited:
                    report["limits"] += limits_of(limit, workload, number)
                turn = number % len(peers)
                for peer in [*peers[turn:], *peers[:turn]]:
                    asked = session.asked(peer, plan)
                    if not asked or not peer.runs(workload):
                        continue
                    place = Place(
                        free_port(),
                        Path(tempfile.mkdtemp(prefix=f"{peer.name}.", dir=folder)),
                        inbox,
                        arguments.environments,
                        arguments.binaries,
                        ROOT / "models",
                        ROOT / "build/lib/libonnxruntime.so",
                    )
                    entry = {"round": number, "workload": workload.name, "peer": peer.name}
                    entry["asked"] = [measure["name"] for measure in asked]
                    entry |= attempt(peer, workload, place, made, asked)
                    report["results"].append(entry)
                    arguments.results.write_text(json.dumps(report, indent=1) + "\n")
    finish(arguments, report)


def attempt(peer: Peer, workload: Workload, place: Place, made: dict, asked: list[dict]) -> dict:
    """Return what was measured of a peer, or why nothing was: whatever that is, the others are measured."""
    try:
        material, expected = made["sets"][workload.images], made["expected"][workload.name]
        measured = session.run(peer, workload, place, material, expected, asked)
    except Exception as error:
        is_ours = not isinstance(error, session.SessionError)
        what = f"{type(error).__name__}: {error}\n{traceback.format_exc()}" if is_ours else str(error)
        print(f"  {peer.name:16} FAILED: {what}", flush=True)
        return {"error": what}
    print(line(peer, measured), flush=True)
    return {"measures": measured}


def finish(arguments: argparse.Namespace, report: dict) -> None:
    """Write results and figures, and name what is missing."""
    figures.add_cpu(report["results"])
    arguments.results.write_text(json.dumps(report, indent=1) + "\n")
    if arguments.json:
        flat = figures.named(report["results"]) | {name: report[name] for name in ("machine", "date", "commit")}
        arguments.json.write_text(json.dumps(flat, indent=2) + "\n")
    for missing in figures.incomplete(report["results"]):
        print(f"bench-peers: {missing}")
    failures = figures.failures(report["results"])
    if failures:
        sys.exit("\n".join(["bench-peers: could not be measured:", *(f"  {failure}" for failure in failures)]))


if __name__ == "__main__":
    main()
