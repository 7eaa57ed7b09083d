"""Process trees out of /proc: what a process and all its descendants cost, CPU time and memory; and their end."""

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
KILLED_S = 10.0
POLL_S = 0.1


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


def _session(pid: int) -> int:
    """Return a process's session; 0 where it is dead, a zombie too."""
    try:
        state, _, _, session, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if state == "Z" else int(session)


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


class Held:
    """The processes of a session (setsid) and their descendants, orphans too, held by pidfds.

    A signal reaches them or nobody, whoever has got their numbers meanwhile.
    """

    def __init__(self, session: int) -> None:
        """Hold those who live now."""
        self._session = session
        self._fds: dict[int, int] = {}
        self.collect()

    def collect(self) -> None:
        """Hold those, too, who came since, and let go of the dead."""
        dead = self._ended(0)
        for pid in [pid for pid, fd in self._fds.items() if fd in dead]:
            os.close(self._fds.pop(pid))
        opened = {}
        for pid in self._alive() - set(self._fds):
            with suppress(ProcessLookupError):
                opened[pid] = os.pidfd_open(pid)
        alive = self._alive()
        for pid, fd in opened.items():
            if pid in alive:  # so it is who was there before, or another one of them
                self._fds[pid] = fd
            else:
                os.close(fd)

    def kill(self) -> None:
        """Kill all who live, and whom they have started meanwhile."""
        until = time.monotonic() + KILLED_S
        self.collect()
        while self._fds and time.monotonic() < until:
            for fd in self._fds.values():
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            self._ended(POLL_S)
            self.collect()

    def _alive(self) -> set[int]:
        members = (pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session(pid) == self._session)
        return {one for pid in members for one in tree(pid)}

    def _ended(self, seconds: float) -> set[int]:
        """Return the pidfds of those that are dead, as soon as there is one."""
        poll = select.poll()
        for fd in self._fds.values():
            poll.register(fd, select.POLLIN)
        return {fd for fd, _ in poll.poll(1000 * seconds)}


def kill_one(root: int, pid: int) -> bool:
    """Kill a process, if it is one of a tree; return whether it was."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if pid not in tree(root):
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True
