"""Where and when something was measured, and with which versions."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

from harness.peers import ROOT

_NAMED = ("onnxruntime", "opencv", "grpcio=", "numpy", "nvidia-pytriton", "tritonclient", "mosec", "litserve", "ray==")


def described() -> dict:
    """Return the machine, the date, the commit, and the versions of the environments' main packages."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, {memory / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "versions": {
            path.stem.removeprefix("requirements-"): [
                line for line in path.read_text().splitlines() if line.startswith(_NAMED)
            ]
            for path in sorted((ROOT / "bench").glob("requirements-*.txt"))
        },
    }
