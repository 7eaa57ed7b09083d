"""Drives scripts/bench-counts: counts of a frame, and the most that each may be."""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from demo_figures import commit, cpu_model

# By figure: the most that it may be. What was counted last, and a margin for where the load falls.
MOST = {
    "copies_per_frame": 1.0,
    "syscalls_per_frame": 11.0,
    "futex_calls_per_frame": 4.0,
    "malloc_calls_per_frame": 120.0,
    "instructions_exact": 20e6,
    "instructions_auto": 15.2e6,
    "instructions_crops": 3.75e6,
}
PHOTO = Path("photos/zidane.jpg")
STEPS = {"exact": "instructions_exact", "auto": "instructions_auto", "crops": "instructions_crops"}
FEW, MANY = 2, 4
TRACING = Path("/sys/kernel/tracing")


def instructions(child: Path, step: str) -> float:
    """Count the instructions of a step on one image: of a run with more of it, over one with fewer."""

    def run(times: int) -> int:
        with tempfile.NamedTemporaryFile(prefix="framepipe-callgrind-") as out:
            done = subprocess.run(
                ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", child, "images"],
                input=f"{step} {times} {PHOTO}\n",
                capture_output=True,
                text=True,
                check=False,
            )
        counted = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode or not counted:
            sys.exit(f"bench-counts: valgrind: {done.stderr[-2000:]}")
        return int(counted[1])

    return (run(MANY) - run(FEW)) / (MANY - FEW)


def of_pipeline(child: Path) -> dict:
    """Count what the pipeline does for a frame, as far as the kernel lets it be counted."""
    if not (TRACING / "events").is_dir():
        subprocess.run(["mount", "-t", "tracefs", "nodev", TRACING], capture_output=True, check=False)
    done = subprocess.run([child, "counts"], stdout=subprocess.PIPE, text=True, check=False)
    *said, figures = done.stdout.splitlines() or [""]
    print(*said, sep="\n")
    if done.returncode:
        sys.exit("bench-counts: the pipeline could not be counted: see above")
    return json.loads(figures)


def main() -> None:
    """Count, compare, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    child = arguments.bin_dir / "framepipe-bench"

    counted = of_pipeline(child)
    for step, name in STEPS.items():
        counted[name] = instructions(child, step)

    for name in ("syscalls", "futex_calls", "malloc_calls"):
        for process, count in sorted(counted.pop(f"{name}_by_process", {}).items()):
            counted[f"{name}_{process}"] = count
    print("| a frame's | counted | at most |\n|---|---|---|")
    for name, count in counted.items():
        print(f"| {name} | {count:,.2f} | {MOST.get(name, '')} |")
    if arguments.json:
        about = {"machine": cpu_model(), "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
        arguments.json.write_text(json.dumps(counted | about | {"commit": commit()}, indent=1) + "\n")
    silent = [name for name in MOST if counted.get(name, 1) == 0]
    if silent:
        sys.exit(f"bench-counts: nothing was counted as {', '.join(silent)}")
    grown = [name for name, most in MOST.items() if counted.get(name, 0) > most]
    if grown:
        sys.exit(f"bench-counts: more than there may be: {', '.join(grown)}")


if __name__ == "__main__":
    main()
