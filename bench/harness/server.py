"""A peer's server: started with a log of its own, ended with all its processes."""

import os
import subprocess
from pathlib import Path

from harness.peers import ROOT, Command
from harness.process import Held

END_S = 30


class Server:
    """A session of processes that lives as long as the `with` block."""

    def __init__(self, command: Command, log: Path) -> None:
        """Start it. Its output goes into the log."""
        self.log_path = log
        with log.open("w") as file:
            environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1"} | command.environment
            self._process = subprocess.Popen(
                command.arguments,
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # by which its processes are found, whoever of them died before
            )

    @property
    def pid(self) -> int:
        """The root's."""
        return self._process.pid

    def log(self) -> str:
        """Return what it has said so far."""
        return self.log_path.read_text(errors="replace")

    def is_alive(self) -> bool:
        """Whether the root lives."""
        return self._process.poll() is None

    def end(self) -> bool:
        """Ask it to end, and end what does not; return whether it ended by itself."""
        held = Held(self.pid)
        self._process.terminate()
        try:
            self._process.wait(END_S)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        held.kill()
        self._process.wait()
        return ended

    def __enter__(self) -> "Server":
        """Return it, running."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.end()
