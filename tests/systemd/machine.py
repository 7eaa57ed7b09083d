"""A machine of the tests' own: systemd as PID 1 in namespaces, over an overlay of this host's root.

What is installed and started in it is seen nowhere else, and ends with it. Every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
UNSHARE = ["unshare", "--cgroup", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork", "--kill-child"]
UNSHARE += ["--propagation", "private"]
NOT_ALLOWED = ("operation not permitted", "permission denied", "read-only file system", "unknown filesystem type")
BOOT_S = 60
COMMAND_S = 120
LOOK_S = 0.02
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# Of the machines that this process has booted: several may run at once.
NUMBERS = itertools.count()


class NotAllowedError(Exception):
    """The host, or its user, allows no machine of our own."""


class CommandError(AssertionError):
    """A command in the machine failed."""


def wait_for(what: str, look: Callable[[], object], limit_s: float = 60, explain: Callable[[], str] = str) -> object:
    """Look again and again until there is something; that."""
    deadline = time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {limit_s} s in vain for: {what}\n{explain()}"
        time.sleep(LOOK_S)


@dataclass
class Hierarchy:
    """A control hierarchy of this host's."""

    name: str
    """ "memory", "name=systemd", …; "unified" for version 2."""
    folder: pathlib.Path
    """This process's group."""

    @staticmethod
    def all() -> list[Hierarchy]:
        """Those that are mounted, as far as they show this process's group."""
        groups = [line.split(":", 2) for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()]
        found = []
        for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
            mount, system = line.split(" - ", 1)
            root, point = mount.split(" ")[3:5]
            kind, _, options = system.split(" ", 2)
            for _, controllers, group in groups:
                shows = (
                    kind == "cgroup2"
                    if not controllers
                    else kind == "cgroup" and set(controllers.split(",")) <= set(options.split(","))
                )
                # Not cpuset, whose groups must be given processors before they may be given processes.
                if shows and group.startswith(root) and "cpuset" not in controllers:
                    below = os.path.relpath(group, root)
                    found.append(Hierarchy(controllers or "unified", pathlib.Path(point, below)))
        return found


def probe() -> None:
    """Find out whether this host allows namespaces and an overlay; else raise `NotAllowedError`."""
    if os.geteuid() != 0:
        raise NotAllowedError("this needs root: run it as root")
    overlay = (
        "mount -t tmpfs tmpfs /mnt; mkdir /mnt/changes /mnt/work /mnt/root; "
        "mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work /mnt/root"
    )
    tried = subprocess.run(
        [*UNSHARE, "bash", "-ec", overlay],
        check=False,
        capture_output=True,
        text=True,
        timeout=BOOT_S,
        env={"PATH": PATH, "LC_ALL": "C"},
    )
    if tried.returncode != 0:
        refuse_or_fail(tried.stderr, "namespaces and an overlay")
    for hierarchy in Hierarchy.all():
        group = hierarchy.folder / f"framepipe-probe-{os.getpid()}"
        try:
            group.mkdir()
            group.rmdir()
        except OSError as error:
            refuse_or_fail(str(error), "control groups")


def refuse_or_fail(said: str, what: str) -> None:
    """Tell a refusal from what is broken."""
    if any(words in said.lower() for words in NOT_ALLOWED):
        raise NotAllowedError(
            f"this host does not allow {what} (in a container without privileges, say): {said.strip()}"
        )
    raise AssertionError(f"{what}: {said}")


class Machine:
    """A booted machine."""

    def __init__(self, *, only_version_2: bool = False) -> None:
        """Boot it."""
        self.name = f"framepipe-test-{os.getpid()}-{next(NUMBERS)}"
        shown = Hierarchy.all()
        self._groups = [hierarchy.folder / self.name for hierarchy in shown]
        names = [hierarchy.name for hierarchy in shown]
        if only_version_2 or names == ["unified"]:
            names = ["unified"]
        for group in self._groups:
            group.mkdir()
        enter = " ".join(f"echo $$ >{shlex.quote(str(group))}/cgroup.procs;" for group in self._groups)
        inside = [*UNSHARE, "bash", str(HERE / "inside.sh"), str(REPOSITORY), *names]
        self._said = pathlib.Path(f"/tmp/{self.name}.console")
        # Whatever becomes of this process: the machine ends with it.
        bound = ["setpriv", "--pdeathsig", "KILL", "bash", "-ec", f"{enter} exec {shlex.join(inside)}"]
        with self._said.open("w") as console:
            self._unshare = subprocess.Popen(bound, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self.leader = 0
        try:
            self.leader = int(wait_for("systemd to be started", self._find_leader, BOOT_S, self.console))
            wait_for("systemd to be up", self._is_up, BOOT_S, self.console)
        except BaseException:
            self.close()
            raise

    def _find_leader(self) -> int:
        assert self._unshare.poll() is None, f"the machine did not start:\n{self.console()}"
        children = pathlib.Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text().split()
        for child in children:
            # Before that it is bash, on its way there.
            if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        return 0

    def _is_up(self) -> bool:
        assert self._unshare.poll() is None, f"the machine ended:\n{self.console()}"
        said = self.try_run("systemctl", "is-system-running")
        return said.stdout.strip() in ("running", "degraded")

    def console(self) -> str:
        """Tell what systemd has said."""
        return self._said.read_text()

    def root(self, path: str) -> pathlib.Path:
        """Translate a path in the machine to one of this host."""
        return pathlib.Path(f"/proc/{self.leader}/root", path.lstrip("/"))

    def _command(self, command: list[str], environment: dict[str, str], folder: str = "/") -> list[str]:
        variables = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **environment}
        enter = ["nsenter", "--target", str(self.leader), "--all", f"--wdns={folder}", "env", "-i"]
        return [*enter, *(f"{name}={value}" for name, value in variables.items()), *command]

    def try_run(
        self, *command: str, environment: dict[str, str] | None = None, folder: str = "/", limit_s: float = COMMAND_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, and return how it ended."""
        return subprocess.run(
            self._command(list(command), environment or {}, folder),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )

    def run(
        self, *command: str, environment: dict[str, str] | None = None, folder: str = "/", limit_s: float = COMMAND_S
    ) -> str:
        """Run a command that must succeed, and return what it says."""
        ended = self.try_run(*command, environment=environment, folder=folder, limit_s=limit_s)
        if ended.returncode != 0:
            said = f"{ended.stdout}{ended.stderr}\n{self.journal()}"
            raise CommandError(f"{shlex.join(command)} ended with {ended.returncode}:\n{said}")
        return ended.stdout

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command that is talked to."""
        return subprocess.Popen(
            self._command(list(command), {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def journal(self, lines: int = 60) -> str:
        """Read the machine's log."""
        said = self.try_run("journalctl", "--no-pager", "--output=short-monotonic", f"--lines={lines}")
        return said.stdout + said.stderr

    def write(self, path: str, text: str) -> None:
        """Write a file in the machine."""
        file = self.root(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def close(self) -> None:
        """End the machine and all that runs in it."""
        if self.leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, 9)
        self._unshare.kill()
        self._unshare.wait(COMMAND_S)
        for group in self._groups:
            wait_for(f"{group} to be empty", lambda group=group: _removed(group), COMMAND_S)
        self._said.unlink()


def _removed(group: pathlib.Path) -> bool:
    """Remove a control group with those below it; false while processes are in one."""
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


@contextlib.contextmanager
def booted(**how: bool) -> Iterator[Machine]:
    """Boot a machine for as long as it is needed."""
    machine = Machine(**how)
    try:
        yield machine
    finally:
        machine.close()
