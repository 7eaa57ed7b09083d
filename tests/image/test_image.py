"""The image: what is in it, how it starts, serves, stops, and says what is missing."""

import json
import os
import pathlib
import signal
import tempfile
import urllib.request

import framepipe
from conftest import IMAGE, PHOTO, STOP_S, USER, podman, wait_for

CHECK = ["framepipe", "status", "--ready", "--config", "/etc/framepipe/street.toml"]
SLOW = "FRAMEPIPE_SERVER__CANARY_MS_MAX=500"


def client_of(container, inbox, stream: str | None = None) -> framepipe.Client:
    """Connect to it from outside."""
    return framepipe.Client(container.address, stream, inbox=str(inbox))


def test_what_the_image_says_of_itself():
    """Read its configuration."""
    image = json.loads(podman("inspect", IMAGE).stdout)[0]
    config = image["Config"]
    assert config["User"] == f"{USER}:{USER}", "a number: engines that forbid root look at it"
    assert set(config["ExposedPorts"]) == {"50051/tcp", "9464/tcp"}
    assert set(config["Volumes"]) == {"/var/lib/framepipe"}
    assert config["StopSignal"] == "SIGTERM"
    assert image["Healthcheck"]["Test"] == ["CMD", *CHECK]


def test_it_serves_a_client_outside_without_root_and_writes_nothing_but_its_own(start, folders):
    """Push through it, and look at its processes."""
    inbox, _ = folders
    container = start()
    container.wait_ready()
    with client_of(container, inbox) as client:
        client.push([PHOTO])
        client.upload([PHOTO])
        results = list(client.results(until_drained=True))
    assert len(results) == 2
    for result in results:
        assert not result.error
        assert "bus" in [found.label for found in result.detections]
    with urllib.request.urlopen(f"http://127.0.0.1:{container.http}/metrics", timeout=10) as page:
        assert "framepipe_results_total 2" in page.read().decode()
    status = json.loads(container.run(*CHECK[:2], "--json", *CHECK[3:]).stdout)
    for pid in [1, *(process["pid"] for process in status["processes"])]:
        lines = container.run("cat", f"/proc/{pid}/status").stdout.splitlines()
        said = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert said["Uid"].split() == [str(USER)] * 4
        assert int(said["CapEff"], 16) == 0
        assert said["NoNewPrivs"] == "1"
    for path in ("/etc/framepipe/x", "/x", "/tmp/x"):
        refused = container.run("touch", path)
        assert "Read-only file system" in refused.stderr, path


def test_sigterm_finishes_what_was_accepted_and_results_outlive_the_container(start, folders):
    """Stop it with frames in flight, and read their results from the next one."""
    inbox, _ = folders
    first = start()
    first.wait_ready()
    with client_of(first, inbox, "drained") as client:
        client.upload([PHOTO] * 64)
        stopped = podman("stop", "--time", STOP_S, first.name, limit_s=STOP_S + 30)
    assert stopped.returncode == 0, stopped.stderr
    assert first.state()["ExitCode"] == 0, first.log()
    second = start()
    second.wait_ready()
    with client_of(second, inbox, "drained") as client:
        results = list(client.results(until_drained=True))
    assert len(results) == 64
    assert not [result.error for result in results if result.error]


def test_a_killed_containers_frames_are_finished_by_the_next_on_the_same_memory(start, folders):
    """Kill it with frames in flight; the segment lies in a folder of the host."""
    inbox, _ = folders
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        os.chmod(memory, 0o1777)
        shared = ("--volume", f"{memory}:/dev/shm")
        first = start(*shared)
        first.wait_ready()
        with client_of(first, inbox, "killed") as client:
            client.upload([PHOTO] * 64)
            podman("kill", "--signal", "KILL", first.name)
        first.wait_end()
        assert list(pathlib.Path(memory).iterdir()), "the segment outlives it"
        second = start(*shared)
        second.wait_ready()
        with client_of(second, inbox, "killed") as client:
            results = list(client.results(until_drained=True))
        assert len(results) == 64
        assert not [result.error for result in results if result.error]
        assert podman("stop", "--time", STOP_S, second.name, limit_s=STOP_S + 30).returncode == 0
        assert second.state()["ExitCode"] == 0, second.log()


def test_dockers_usual_shared_memory_is_too_little_and_the_error_says_what_to_give(start):
    """Start it with Docker's default."""
    container = start("--shm-size=64m")
    assert container.wait_end() == 1
    said = container.log()
    assert "docker run --shm-size=" in said, said


def test_a_root_that_is_read_only_and_no_place_for_sockets_is_an_error_that_names_the_folder(start, tmp_path):
    """Start it without a folder to write sockets to."""
    container = start("--volume", f"{tmp_path}:/run/framepipe:ro")
    assert container.wait_end() == 1
    assert "cannot make the folder /run/framepipe/street" in container.log()


def test_the_health_check_says_no_while_a_stage_hangs_and_yes_again_afterwards(start):
    """Stop all processes of a stage, and let them go on."""
    container = start("--env", SLOW)
    early = container.health()
    assert early.returncode == 1, early.stdout
    assert "is the pipeline up?" in early.stderr or "street: not ready: " in early.stdout
    container.wait_ready()
    pids = container.pids("detect")
    assert pids
    container.kill("STOP", pids)
    wait_for("unhealthy container", lambda: container.health().returncode == 1, 30, container.log)
    said = container.health()
    assert "street: not ready: " in said.stdout
    container.kill("CONT", pids)
    container.wait_ready()


def test_the_first_process_reaps_what_others_leave_and_ends_as_the_launcher_does(start):
    """Leave an orphan, and kill the launcher."""
    container = start()
    container.wait_ready()
    # The shell ends before its child, which then is the first process's.
    container.run("sh", "-c", "(sleep 0.2; touch /run/framepipe/ended) & exit")

    def is_there(path: str) -> bool:
        return container.run("test", "-e", path).returncode == 0

    def zombies() -> list[str]:
        stats = container.run("sh", "-c", "cat /proc/[0-9]*/stat").stdout.splitlines()
        return [stat for stat in stats if ") Z " in stat]

    wait_for("end of an orphan", lambda: is_there("/run/framepipe/ended"), 10)
    wait_for("end of all zombies", lambda: not zombies(), 10, lambda: f"{zombies()}")
    status = json.loads(container.run(*CHECK[:2], "--json", *CHECK[3:]).stdout)
    container.kill("KILL", [status["pid"]])
    assert container.wait_end() == 128 + signal.SIGKILL
