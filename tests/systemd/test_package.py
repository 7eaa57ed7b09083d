"""The package: a newcomer's commands word for word, what its units are, upgrades, removal."""

import pathlib
import re
import shutil

import pytest
from machine import REPOSITORY, booted, wait_for
from service import Service, loaded

HOME = "/srv/newcomer"
WHEELS = str(REPOSITORY / "build" / "wheels")
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""The machine has no network: what pip would fetch lies there (scripts/test-systemd)."""
SECTION = "## On a server"
EXPOSURE = 25
"""Of the service's sandbox, as `systemd-analyze security` counts it, in tenths."""
UNITS = ["framepipe@street.service", "framepipe@street.socket", "framepipe.slice"]
UNITS += ["framepipe-unix@street.socket", "framepipe-http@street.socket", r"dev-shm-framepipe\x2dinbox.mount"]


def commands_of_the_readme() -> list[str]:
    """Read the commands of README's section, a line each."""
    section = (REPOSITORY / "README.md").read_text().split(f"\n{SECTION}\n", 1)[1].split("\n## ", 1)[0]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block, f"README's section {SECTION!r} has no commands"
    return block[1].splitlines()


def newcomers_folder(machine, package) -> None:
    """Make what somebody has who has cloned the repository and built the package has."""
    home = machine.root(HOME)
    (home / "out").mkdir(parents=True)
    shutil.copy(package, home / "out")
    shutil.copytree(REPOSITORY / "clients" / "python", home / "clients" / "python")
    (home / "photos").mkdir()
    for photo in ("bus.jpg", "zidane.jpg"):
        shutil.copy(REPOSITORY / "photos" / photo, home / "photos")


def test_a_newcomers_five_commands(allowed, package):
    """Run README's commands word for word on a machine of their own."""
    commands = commands_of_the_readme()
    assert len(commands) == 5, commands
    with booted() as machine:
        newcomers_folder(machine, package)
        service = Service(machine)
        said = []
        for command in commands:
            said.append(machine.run("bash", "-ec", command, folder=HOME, environment=OFFLINE))
            if command.startswith("systemctl start"):
                check_what_runs(service)
        pushed = said[3]
        assert re.search(r"bus\.jpg: .*bus 0\.\d\d", pushed), pushed
        assert re.search(r"zidane\.jpg: .*person 0\.\d\d", pushed), pushed
        assert service.show("ActiveState") == "inactive"
        assert service.show("Result") == "success", service.explain()
        left = [path.name for path in machine.root("/dev/shm").iterdir()]
        assert left == ["framepipe-inbox"], left


def check_what_runs(service: Service) -> None:
    """Check that it is the installed programs, by the service's user, with the installed library."""
    machine = service.machine
    pids = [service.main_pid()] + [process["pid"] for process in service.status()["processes"]]
    assert len(pids) >= 8
    for pid in pids:
        process = machine.root(f"/proc/{pid}")
        assert str((process / "exe").readlink()).startswith("/usr/lib/framepipe/framepipe"), pid
        assert machine.run("stat", "--format=%U", f"/proc/{pid}").strip() == "framepipe"
        opened = {line.split()[-1] for line in (process / "maps").read_text().splitlines() if "/" in line}
        assert not [path for path in opened if str(REPOSITORY) in path], opened
    maps = machine.root(f"/proc/{service.pids('detect')[0]}/maps").read_text()
    assert "/usr/lib/framepipe/libonnxruntime.so" in maps


def test_units_are_sound_and_the_sandbox_is_tight(machine):
    """Ask systemd, which says unknown keys on standard error alone."""
    verified = machine.try_run("systemd-analyze", "--man=no", "verify", *UNITS)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    sandbox = machine.try_run(
        "systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "framepipe@street.service"
    )
    assert sandbox.returncode == 0, sandbox.stdout
    broken = "/run/systemd/system/framepipe-broken.service"
    machine.write(broken, "[Service]\nExecStart=/usr/bin/framepipe\nExecStrat=/bin/true\n")
    said = machine.try_run("systemd-analyze", "verify", "framepipe-broken.service").stderr
    machine.root(broken).unlink()
    assert "ExecStrat" in said, "an unknown key is said on standard error, and there alone"


def test_the_inbox_is_a_tmpfs_with_a_limit_of_its_own(machine, service):
    """Look at the mount, from outside and from inside the sandbox."""
    inbox = r"dev-shm-framepipe\x2dinbox.mount"
    assert machine.run("systemctl", "is-active", inbox).strip() == "active", "it is there before any client"
    wanted_by = machine.run("systemctl", "show", "--property", "WantedBy", "--value", inbox)
    assert "local-fs.target" in wanted_by.split(), "and after a boot"
    with service.running():
        mounted = machine.run("findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "/dev/shm/framepipe-inbox")
        assert mounted.startswith("tmpfs") and "size=" in mounted and "noexec" in mounted, mounted
        assert machine.run("stat", "--format=%a %U", "/dev/shm/framepipe-inbox").strip() == "1777 root"
        inside = f"/proc/{service.main_pid()}/mountinfo"
        assert " /dev/shm/framepipe-inbox " in machine.root(inside).read_text(), "the sandbox shows it"


def test_the_sandbox_holds(machine, service):
    """Try to write from where the launcher is."""
    with service.running():
        pid = str(service.main_pid())
        enter = ["nsenter", "--target", pid, "--mount", "--wdns=/", "sh", "-c"]
        for path in ("/etc/framepipe/x", "/usr/lib/framepipe/x", "/var/lib/x", "/var/lib/framepipe/x"):
            refused = machine.try_run(*enter, f"echo x >{path}")
            assert "Read-only file system" in refused.stderr, (path, refused.stderr)
        status = machine.root(f"/proc/{pid}/status").read_text()
        for line in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000", "CapEff:\t0000000000000000"):
            assert line in status, status


@pytest.fixture()
def fresh(allowed, package):
    """Boot a machine that no other test uses."""
    with booted() as machine:
        machine.run("dpkg", "--install", package)
        yield machine


def test_an_upgrade_drains_and_goes_on_and_a_purge_leaves_nothing(fresh, package):
    """Install, use, install again under load, remove, purge."""
    service = Service(fresh)
    edited = fresh.root("/etc/framepipe/street.toml")
    edited.write_text(edited.read_text() + "\n[journal]\nretention_s = 3600\n")
    fresh.run("systemctl", "enable", "--now", "framepipe-http@street.socket")
    fresh.run("systemctl", "start", service.unit)
    with loaded(fresh) as load:
        load.wait_results(8)
        fresh.run("dpkg", "--unpack", package)
        assert service.show("ActiveState") == "inactive", "no launcher of the old version starts workers of the new one"
        assert service.pids_of("framepipe") == []
        fresh.run("dpkg", "--configure", "framepipe")
        wait_for("the new version to serve", service.is_active, 60, service.explain)
        assert fresh.run("systemctl", "is-active", "framepipe-http@street.socket").strip() == "active"
        load.wait_results(8)
        load.finish()
    assert "retention_s" in edited.read_text(), "what was configured stays"
    # A removal that dpkg gives up, because another package is in its way: it calls these two.
    fresh.run("/var/lib/dpkg/info/framepipe.prerm", "remove")
    assert service.show("ActiveState") == "inactive"
    fresh.run("/var/lib/dpkg/info/framepipe.postinst", "abort-remove")
    wait_for("what ran to run again", service.is_active, 60, service.explain)
    assert fresh.run("systemctl", "is-active", "framepipe-http@street.socket").strip() == "active"
    left = fresh.root("/run/framepipe.stopped")
    assert not left.exists(), "nothing is started again that did not run"
    fresh.run("dpkg", "--remove", "framepipe")
    assert service.show("ActiveState") in ("inactive", "failed")
    assert not fresh.root("/usr/lib/framepipe").exists() and edited.exists()
    assert not left.exists(), "nor by a later installation"
    state = fresh.root("/var/lib/framepipe/street")
    assert state.is_dir(), "unread results outlive a removal"
    enabled = fresh.root("/etc/systemd/system/sockets.target.wants/framepipe-http@street.socket")
    segments = [fresh.root("/dev/shm/framepipe-street"), fresh.root("/dev/shm/framepipe-of-somebody-else")]
    for segment in segments:
        fresh.run("mkdir", "-p", f"/dev/shm/{segment.name}")
    fresh.run("chown", "framepipe", f"/dev/shm/{segments[0].name}")
    assert enabled.is_symlink()
    fresh.run("dpkg", "--purge", "framepipe")
    assert not enabled.is_symlink()
    assert [segment.is_dir() for segment in segments] == [False, True], "a purge removes the package's own alone"
    segments[1].rmdir()
    left = ["/etc/framepipe", "/var/lib/framepipe", "/run/framepipe", "/usr/share/framepipe", "/usr/bin/framepipe"]
    assert [path for path in left if fresh.root(path).exists() or fresh.root(path).is_symlink()] == []
    memory = [path.name for path in pathlib.Path(fresh.root("/dev/shm")).iterdir()]
    assert memory in ([], ["framepipe-inbox"]), memory
