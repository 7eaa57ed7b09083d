"""Adds up the demos' totals into one flat JSON object of figures.

Usage: demo_figures.py STREET.json FACES.json
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
    """Print the sums of both demos, and each one's time to ready."""
    street, faces = (json.loads(pathlib.Path(name).read_text()) for name in sys.argv[1:3])
    figures = {name: street[name] + faces[name] for name in ("photos", "detections", "attributes", "errors")}
    figures |= {"ready_ms_street": street["ready_ms"], "ready_ms_faces": faces["ready_ms"]}
    figures |= {"machine": cpu_model(), "date": datetime.date.today().isoformat(), "commit": commit()}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
