"""Adds up the demos' totals into one flat JSON object of figures.

Usage: demo_figures.py DIRECTORY/demo-PIPELINE.json ...
"""

import datetime
import json
import pathlib
import platform
import subprocess
import sys


def cpu_model() -> str:
    """Return the processor's name, as the kernel gives it."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """Return the commit that is checked out; empty outside a checkout."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def main() -> None:
    """Print the sums of all demos, and each one's time to ready."""
    paths = [pathlib.Path(name) for name in sys.argv[1:]]
    demos = {path.stem.removeprefix("demo-"): json.loads(path.read_text()) for path in paths}
    names = ("photos", "detections", "attributes", "errors")
    figures = {name: sum(demo[name] for demo in demos.values()) for name in names}
    figures |= {f"ready_ms_{pipeline}": demo["ready_ms"] for pipeline, demo in demos.items()}
    figures |= {"machine": cpu_model(), "date": datetime.date.today().isoformat(), "commit": commit()}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
