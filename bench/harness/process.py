"""What processes cost: CPU time and memory of a process and all its descendants, out of /proc."""

import os
import threading
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
MEMORY_EVERY_S = 0.5


def tree(root: int) -> list[int]:
    """Return a process and its descendants that live now."""
    found, at = [root], 0
    while at < len(found):
        for task in Path(f"/proc/{found[at]}/task").glob("*"):
            try:
                found += [int(child) for child in (task / "children").read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue
        at += 1
    return found


def cpu_s(root: int) -> float:
    """Return the CPU seconds of a process tree so far, those of waited-for dead ones included."""
    return sum(sum(_ticks(pid)) for pid in tree(root)) * TICK_S


def _ticks(pid: int) -> list[int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(ticks) for ticks in fields[11:15]]


def pss_bytes(root: int) -> int:
    """Return the memory of a process tree: each page shared out among those that map it."""
    total = 0
    for pid in tree(root):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += next((1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total


def machine_busy_s() -> float:
    """Return the CPU seconds that all cores together have worked."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) * TICK_S


class PeakMemory:
    """Looks at a tree's memory until it is closed; `bytes` is the most that it saw."""

    def __init__(self, root: int) -> None:
        """Begin to look."""
        self.bytes = 0
        self._root = root
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> int:
        """Stop, and return the peak."""
        self._closed.set()
        self._thread.join()
        return self.bytes

    def _run(self) -> None:
        while True:
            self.bytes = max(self.bytes, pss_bytes(self._root))
            if self._closed.wait(MEMORY_EVERY_S):
                return
