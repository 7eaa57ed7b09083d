"""The harness counts what it should, fails what it should, and leaves nothing behind."""

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PATIENCE_S
from harness import answers, drivers, figures, load
from harness.leftovers import SHM, Leftovers
from harness.peers import PEERS, Command
from harness.process import Held
from harness.server import Server
from harness.session import Heard, SessionError, give_up

PACED = {"name": "tail", "of": "throughput", "batch": 1, "share": 0.5, "seconds": 0.3, "warmup": 0.0}


class Peer:
    """A driver whose frames are answered as a test wants."""

    def __init__(self, answer: Callable[[int, load.Driver], None]) -> None:
        """`answer` is given a push's number and what is to be called with its results."""
        self._answer = answer
        self.pushes = 0

    def submit(self, batch: int, done: Callable) -> None:
        """Take a push."""
        self.pushes += 1
        self._answer(self.pushes, done)


def test_the_floor_is_the_engine_and_the_least_of_decoding():
    """Of the same round."""

    def entry(peer: str, measure: dict) -> dict:
        measure |= {"frames": 100, "server_cpu_s": 4.0, "client_cpu_s": 0.5}
        return {
            "round": 0,
            "workload": "street",
            "peer": peer,
            "asked": ["throughput_batch1"],
            "measures": {"throughput_batch1": measure},
        }

    results = [entry("framepipe", {}), entry("engine", {"jpeg_floor_ms": 5.0})]
    figures.add_cpu(results)
    assert figures.named(results)["street_cpu_over_floor"] == 45 / (45 + 5)


def test_a_share_of_the_limit_is_of_the_limit_of_its_round():
    """A round without a limit, or without a rate, has none."""
    limits = [
        {"round": 0, "workload": "paper", "gmac_per_s": 200.0, "gmac_a_frame": 5.0},
        {"round": 1, "workload": "paper", "gmac_per_s": 100.0, "gmac_a_frame": 5.0},
        {"round": 3, "workload": "paper1", "gmac_per_s": 100.0, "gmac_a_frame": 5.0},
    ]

    def entry(number: int, measure: dict, peer: str = "framepipe") -> dict:
        return {"round": number, "workload": "paper", "peer": peer, "measures": {"throughput_batch1": measure}}

    results = [entry(0, {"fps": 20.0}), entry(1, {"fps": 16.0}), entry(1, {"fps": 1.0}, "engine")]
    results += [entry(1, {"error": "gone"}), entry(3, {"fps": 20.0})]
    assert figures.shares_of_limit(limits, results, "paper", "framepipe", "throughput_batch1") == [0.5, 0.8]


def test_a_late_result_of_a_lost_frame_is_not_a_good_one():
    """It is counted once."""
    late = []
    window = load.Window(begin=0.0)
    out = load.InFlight(1, 0.01, window)
    peer = Peer(lambda _, done: late.append(done))
    out.push(peer, 1)
    out.drain()
    late[0]([3])
    assert (window.lost, window.good, window.detections) == (1, 0, 0)


def test_what_was_due_in_the_window_counts_when_it_comes_after_its_end(monkeypatch: pytest.MonkeyPatch):
    """And what is given up is the worst."""
    monkeypatch.setattr(load, "LOST_S", 1.0)

    def answer(number: int, done: Callable) -> None:
        if number == 1:
            threading.Timer(0.6, done, [[0]]).start()
        elif number > 2:
            done([0])

    peer = Peer(answer)
    told = load.paced(peer, PACED, {"throughput": {"fps": 60.0}})
    assert told["frames"] == peer.pushes - 1
    assert told["lost"] == 1
    assert told["p99.9_ms"] >= 1000


def test_a_window_in_which_nothing_came_is_an_error():
    """Its rate is no measurement."""
    with pytest.raises(RuntimeError, match="no frame came: 0 failed, 0 refused, 2 lost"):
        load.Window(begin=0.0, end=1.0, lost=2).told()


@pytest.mark.parametrize(
    ("found", "expected", "is_right"),
    [
        ([2, 4, 3], [3, 4, 2], True),
        ([0, 0, 0], [3, 4, 2], False),
        ([2, 0, 2], [2, 1, 2], False),
        ([1], [0], False),
        ([8], [9], True),
        ([6], [9], False),
        ([2, 4], [2, 4, 3], False),
    ],
)
def test_a_peer_must_find_about_what_the_reference_finds(found: list[int], expected: list[int], is_right: bool):
    """Per image."""
    assert (not answers.fault_of_images(found, expected)) == is_right


def test_a_session_ends_where_nothing_is_found_and_takes_no_notice_of_what_libraries_print():
    """Before anything is measured, and in each window."""
    heard = Heard(PEERS["mosec"], None, 0, [2, 3], [])
    heard.line("WARNING: something\n")
    heard.line("17\n")
    with pytest.raises(SessionError, match=r"mosec finds \[0, 0\]"):
        heard.line(json.dumps({"found": [0, 0]}))
    heard.line(json.dumps({"measured": "throughput_batch1", "fps": 9.0, "detections_a_frame": 0.5}))
    heard.line(json.dumps({"measured": "latency", "fps": 9.0, "detections_a_frame": 2.6}))
    assert "fps" not in heard.results["throughput_batch1"]
    assert heard.results["latency"]["fps"] == 9.0


def test_what_failed_is_named_and_ratios_say_which_rounds_they_lack():
    """Measures, too."""
    results = [
        {"round": number, "workload": "noop", "peer": peer, "asked": ["throughput_batch8"], "measures": {}}
        for number in (0, 1)
        for peer in ("framepipe", "triton-shm")
    ]
    for entry in results:
        entry["measures"]["throughput_batch8"] = {"fps": 10.0 if entry["peer"] == "framepipe" else 5.0}
    assert not figures.failures(results)
    assert not figures.incomplete(results)
    results[3]["measures"]["throughput_batch8"] = {"error": "gone"}
    assert figures.failures(results) == ["round 2, noop, triton-shm, throughput_batch8: gone"]
    assert figures.named(results)["noop_fps_over_triton"] == 2.0
    assert figures.incomplete(results) == ["noop_fps_over_triton has 1 of 2 rounds: in the others a value is missing"]


ORPHANING = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; print('here', flush=True); signal.pause()"])
"""


def test_orphans_of_a_dead_server_are_killed():
    """They are in its session still."""
    command = [sys.executable, "-c", ORPHANING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
        assert server.stdout.readline() == "here\n"
        server.wait(PATIENCE_S)
        Held(server.pid).kill()
        ended, _, _ = select.select([server.stdout], [], [], PATIENCE_S)  # when nobody has it open
        assert ended
        assert server.stdout.read() == ""


def test_what_a_peer_leaves_in_shared_memory_goes_and_nothing_else():
    """Not what was there, what has another name, or what is in use."""
    mine = f"bench-test-{uuid.uuid4().hex}"
    old, new, mapped, other, folder = (SHM / f"{mine}-{name}" for name in ("old", "new", "mapped", "other", "folder"))
    try:
        old.write_bytes(b"x")
        leftovers = Leftovers(f"{mine}-(old|new|mapped|folder)")
        for path in (new, mapped, other):
            path.write_bytes(b"x")
        folder.mkdir()
        (folder / "pool").write_bytes(b"x")
        with mapped.open("r+b") as file, mmap.mmap(file.fileno(), 1):
            assert leftovers.remove() == [folder.name, new.name]
        assert [path.exists() for path in (old, new, mapped, other, folder)] == [True, False, True, True, False]
    finally:
        for path in (old, new, mapped, other):
            path.unlink(missing_ok=True)


def test_a_client_whose_server_died_before_it_answered_is_not_waited_for(tmp_path: Path):
    """One whose server has answered is its own affair."""
    with Server(Command([sys.executable, "-c", ""]), tmp_path / "log") as server:
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        for has_answered in (True, False):
            heard = Heard(PEERS["litserve"], server, 0, [], [])
            if has_answered:
                heard.answered.set()
            with subprocess.Popen(["sleep", "600"]) as client:
                thread = threading.Thread(target=give_up, args=(server, client, heard), daemon=True)
                thread.start()
                thread.join(PATIENCE_S)
                ended = client.poll() if has_answered else client.wait(PATIENCE_S)
                client.kill()
            assert not thread.is_alive()
            assert ended == (None if has_answered else -signal.SIGKILL)
            assert heard.server_died_first.is_set() != has_answered


def test_what_describes_detections_is_looked_for():
    """As many of them as can be, by all models."""
    drivers.check_described([{"a", "b"}, {"a", "b"}, set()], {"a", "b"}, 2)
    with pytest.raises(RuntimeError, match="1 of 2 detections"):
        drivers.check_described([{"a", "b"}, {"a"}, set()], {"a", "b"}, 2)
