"""The installed service in a machine, and a client that loads it."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Iterator

from machine import REPOSITORY, Machine, wait_for

CONFIG = "/etc/framepipe/street.toml"
TCP = "localhost:50051"
PYTHON = str(REPOSITORY / "build" / "venv" / "bin" / "python")
CLIENT = str(REPOSITORY / "clients" / "python")
START_S = 90


class Service:
    """`framepipe@street` of the installed package."""

    unit = "framepipe@street.service"

    def __init__(self, machine: Machine) -> None:
        """Of this machine."""
        self.machine = machine

    def show(self, what: str) -> str:
        """Ask for a property of the unit."""
        return self.machine.run("systemctl", "show", "--property", what, "--value", self.unit).strip()

    def is_active(self) -> bool:
        """Tell whether it is up, and ready."""
        return self.show("ActiveState") == "active"

    def wait_active(self) -> None:
        """Wait until it is ready."""
        wait_for(f"{self.unit} to be active", self.is_active, START_S, self.explain)

    def wait_restarted(self, before: int) -> None:
        """Wait until systemd has started it again, and it is ready."""
        wait_for("systemd to restart it", lambda: self.restarts() > before, START_S, self.explain)
        self.wait_active()

    def main_pid(self) -> int:
        """Find the launcher."""
        return int(self.show("MainPID"))

    def restarts(self) -> int:
        """Count how often systemd has restarted it by itself."""
        return int(self.show("NRestarts"))

    def status(self) -> dict:
        """Ask `framepipe status`."""
        return json.loads(self.machine.run("framepipe", "status", "--config", CONFIG, "--json"))

    def pids(self, stage: str) -> list[int]:
        """Find the pids of a stage's processes, or of the gateway or keeper."""
        return [process["pid"] for process in self.status()["processes"] if process["stage"] == stage]

    def pids_of(self, program: str) -> list[int]:
        """Find the pids of a program's processes that live, whether the launcher answers or not."""
        processes = [line.split() for line in self.machine.run("ps", "-eo", "pid=,stat=,comm=").splitlines()]
        # The kernel keeps 15 characters of a name.
        return [int(pid) for pid, state, name, *_ in processes if name == program[:15] and state[0] != "Z"]

    def kill(self, signal: str, *pids: int) -> None:
        """Send a signal."""
        self.machine.run("kill", f"-{signal}", *map(str, pids))

    def explain(self) -> str:
        """Tell what there is to know of it when a wait was in vain."""
        shown = self.machine.try_run("systemctl", "status", "--no-pager", "--lines=60", self.unit).stdout
        return f"{shown}\n{self.machine.journal()}"

    @contextlib.contextmanager
    def changed(self, *lines: str) -> Iterator[None]:
        """Add lines to its [Service] by a drop-in, meanwhile."""
        path = f"/run/systemd/system/{self.unit}.d/test.conf"
        self.machine.write(path, "\n".join(["[Service]", *lines, ""]))
        self.machine.run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            self.machine.root(path).unlink()
            self.machine.run("systemctl", "daemon-reload")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start it, and stop it at the end."""
        self.machine.run("systemctl", "start", self.unit)
        try:
            yield
        finally:
            self.machine.run("systemctl", "stop", self.unit)
            self.machine.try_run("systemctl", "reset-failed", self.unit)  # where it is known at all


class Load:
    """A client that pushes and reads; in the end each accepted frame must have one result, and no other."""

    def __init__(self, machine: Machine, address: str = TCP) -> None:
        """Start it."""
        here = str(REPOSITORY / "tests" / "systemd" / "load.py")
        self._machine = machine
        self._process = machine.start("env", f"PYTHONPATH={CLIENT}", PYTHON, here, address)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._last: dict = {"accepted": 0, "results": 0}

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)

    def _hear(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._last = json.loads(self._lines.get_nowait())

    def wait_results(self, more: int, limit_s: float = 120) -> None:
        """Wait until so many more results have come."""
        self._hear()
        wanted = self._last["results"] + more

        def has_come() -> bool:
            self._hear()
            ended = "accepted_frames" in self._last or self._process.poll() is not None
            assert not ended, f"the client ended: {self._last}\n{self._machine.journal()}"
            return self._last["results"] >= wanted

        wait_for(f"{wanted} results", has_come, limit_s, lambda: f"{self._last}\n{self._machine.journal()}")

    def finish(self, limit_s: float = 180) -> int:
        """Stop pushing, wait for the rest, and check that nothing was lost, doubled or failed. Return the frames."""
        self._process.stdin.close()
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        said = self._process.stderr.read()
        wait_for("the client's ledger", lambda: self._hear() or "accepted_frames" in self._last, 10, lambda: said)
        ledger = self._last
        assert not ledger["failure"] and not ledger["errors"], f"{ledger['failure']} {ledger['errors']}\n{said}"
        accepted, results = ledger["accepted_frames"], ledger["result_frames"]
        lost, strange = set(accepted) - set(results), set(results) - set(accepted)
        assert not lost, f"{len(lost)} of {len(accepted)} accepted frames have no result\n{self._machine.journal()}"
        assert not strange and len(results) == len(accepted), f"{len(results)} results of {len(accepted)} frames"
        return len(accepted)

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait(10)


@contextlib.contextmanager
def loaded(machine: Machine, address: str = TCP) -> Iterator[Load]:
    """Load it for as long as it is needed."""
    load = Load(machine, address)
    try:
        yield load
    finally:
        load.close()
