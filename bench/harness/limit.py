"""What the cores could do at most: INT8 multiply-accumulates (scripts/peak_int8.c), beside those that a frame takes."""

import os
import subprocess
from pathlib import Path

from cascade import manifest

from harness.peers import ROOT
from harness.workloads import Workload

NO_INSTRUCTIONS = 3
"""The program's exit status where the CPU has none that it knows."""


class LimitError(Exception):
    """It could not be measured here."""


class Limit:
    """The compiled program, and the models' multiply-accumulates as far as they were counted."""

    def __init__(self, folder: Path) -> None:
        """Compile it into a folder."""
        self._program = folder / "peak_int8"
        self._gmac: dict[str, float] = {}
        command = ["cc", "-O3", "-o", str(self._program), str(ROOT / "scripts/peak_int8.c")]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise LimitError("there is no C compiler, cc") from error
        except subprocess.CalledProcessError as error:
            raise LimitError(f"cc ended with {error.returncode}: {error.stderr.strip()}") from error

    def measure(self, workload: Workload) -> dict:
        """Run it on all cores at once; return what they did in a second, and what a frame of the workload takes."""
        cores = range(os.cpu_count() or 1)
        programs = [subprocess.Popen([str(self._program)], stdout=subprocess.PIPE, text=True) for _ in cores]
        told = [(program.communicate()[0].strip(), program.returncode) for program in programs]
        statuses = {status for _, status in told}
        if NO_INSTRUCTIONS in statuses:
            raise LimitError("this CPU has neither AVX2 nor VNNI")
        if any(statuses):
            raise LimitError(f"peak_int8 ended with {statuses}")
        of_cores = [line.split(" ", 1) for line, _ in told]
        of_crop = sum(self._of(name) for name in workload.attributes)
        return {
            "workload": workload.name,
            "gmac_per_s": sum(float(of_core) for of_core, _ in of_cores),
            "instructions": of_cores[0][1],
            "gmac_a_frame": self._of(workload.detector) + workload.crops_a_frame * of_crop,
        }

    def _of(self, name: str) -> float:
        if name not in self._gmac:
            program = [str(ROOT / "build/venv/bin/python"), str(ROOT / "scripts/bench_macs.py")]
            command = [*program, str(manifest.load(ROOT / "models", name).graph)]
            counted = subprocess.run(command, check=False, capture_output=True, text=True)
            if counted.returncode:
                raise LimitError(f"{name}: bench_macs.py ended with {counted.returncode}: {counted.stderr.strip()}")
            self._gmac[name] = float(counted.stdout)
        return self._gmac[name]
