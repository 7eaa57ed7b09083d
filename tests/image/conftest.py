"""Containers of the image that scripts/image has built, run by podman, and a client outside of them."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients" / "python"))
IMAGE = os.environ.get("FRAMEPIPE_IMAGE", "")
STORE = os.environ.get("FRAMEPIPE_STORE", "").split()
PHOTO = ROOT / "photos" / "bus.jpg"
USER = 10001
READY_S = 120
STOP_S = 120


def podman(*arguments: object, limit_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run podman on the test's store."""
    command = ["podman", *STORE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)


def wait_for(what: str, holds: Callable[[], bool], limit_s: float, explain: Callable[[], str] = str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"after {limit_s} s there was no {what}\n{explain()}"
        time.sleep(0.05)


def free_port() -> int:
    """Find a port that nobody listens at."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


class Container:
    """One container, locked up as compose.yaml's."""

    def __init__(self, inbox: pathlib.Path, state: pathlib.Path, *options: str) -> None:
        """Start it."""
        self.name = f"framepipe-test-{uuid.uuid4().hex[:12]}"
        self.grpc, self.http = free_port(), free_port()
        variables = {"FRAMEPIPE_SERVER__TCP": self.grpc, "FRAMEPIPE_SERVER__HTTP": self.http}
        arguments = ["run", "--detach", "--name", self.name, "--no-healthcheck"]
        arguments += ["--read-only", "--read-only-tmpfs=false"]
        arguments += ["--cap-drop", "all", "--security-opt", "no-new-privileges", "--pids-limit", "0"]
        if not any("/run/framepipe" in option for option in options):
            arguments += ["--tmpfs", "/run/framepipe:size=1m,mode=1777"]
        arguments += ["--volume", f"{inbox}:{inbox}", "--env", f'FRAMEPIPE_SERVER__INBOX=["{inbox}"]']
        arguments += ["--volume", f"{state}:/var/lib/framepipe"]
        for name, port in variables.items():
            arguments += ["--env", f"{name}=0.0.0.0:{port}"]
        if not any(option.startswith("--shm-size") or option.endswith(":/dev/shm") for option in options):
            options = ("--shm-size=2g", *options)
        started = podman(*arguments, *options, IMAGE)
        assert started.returncode == 0, started.stderr

    def run(self, *command: object, limit_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return podman("exec", self.name, *command, limit_s=limit_s)

    def kill(self, signal: str, pids: list[int]) -> None:
        """Send processes inside a signal; the image has no command for that but the shell's."""
        sent = self.run("sh", "-c", f"kill -{signal} {' '.join(map(str, pids))}")
        assert sent.returncode == 0, sent.stderr

    def health(self) -> subprocess.CompletedProcess[str]:
        """Run the image's own health check."""
        return self.run(*json.loads(podman("inspect", IMAGE).stdout)[0]["Healthcheck"]["Test"][1:])

    def is_healthy(self) -> bool:
        """Ask it whether it is ready; it must not have ended."""
        assert self.is_running(), self.log()
        return self.health().returncode == 0

    def wait_ready(self) -> None:
        """Wait until it is."""
        wait_for("healthy container", self.is_healthy, READY_S, self.log)

    def state(self) -> dict:
        """Ask how it is."""
        return json.loads(podman("inspect", self.name).stdout)[0]["State"]

    def is_running(self) -> bool:
        """Ask whether it runs."""
        return self.state()["Running"]

    def log(self) -> str:
        """Give all that it said."""
        said = podman("logs", self.name)
        return said.stdout + said.stderr

    def pids(self, stage: str) -> list[int]:
        """Give a stage's processes, by their numbers inside."""
        status = json.loads(self.run("framepipe", "status", "--json", "--config", "/etc/framepipe/street.toml").stdout)
        return [process["pid"] for process in status["processes"] if process["stage"] == stage]

    def wait_end(self, limit_s: float = STOP_S) -> int:
        """Wait for its end, and give its exit status."""
        ended = podman("wait", self.name, limit_s=limit_s)
        assert ended.returncode == 0, ended.stderr
        return int(ended.stdout)

    @property
    def address(self) -> str:
        """Where gRPC is."""
        return f"127.0.0.1:{self.grpc}"


@pytest.fixture()
def folders() -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Give an inbox and a state folder, as a host has them."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as inbox, tempfile.TemporaryDirectory() as state:
        os.chmod(inbox, 0o1777)
        os.chown(state, USER, USER)
        yield pathlib.Path(inbox), pathlib.Path(state)


@pytest.fixture()
def start(folders) -> Iterator[Callable[..., Container]]:
    """Start containers, which end with the test."""
    with contextlib.ExitStack() as ends:

        def one(*options: str) -> Container:
            container = Container(*folders, *options)
            ends.callback(podman, "rm", "--force", "--time", "0", container.name)
            return container

        yield one
