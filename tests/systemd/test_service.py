"""The service under load: what dies, hangs, has no memory, or is stopped costs no frame."""

import pytest
from machine import wait_for
from service import loaded

FRAMES = 8
"""Results that come before and after something happens."""


def test_it_is_ready_when_start_returns_and_says_what_it_is_at(machine, service):
    """Start, look, stop."""
    with service.running():
        assert service.is_active()
        assert service.show("StatusText").startswith("serving: "), service.show("StatusText")
        assert service.status()["processes"], "the launcher answers"
        with loaded(machine) as load:
            load.wait_results(FRAMES)
            load.finish()
    assert service.show("Result") == "success"
    assert not machine.root("/dev/shm/framepipe-street").exists(), "a drained pipeline leaves no segment"


@pytest.mark.parametrize("stage", ["detect", "gateway"])
def test_a_killed_process_is_replaced_and_the_service_stays_up(machine, service, stage):
    """Kill one: that is the launcher's to repair."""
    with service.running(), loaded(machine) as load:
        load.wait_results(FRAMES)
        launcher, victims = service.main_pid(), service.pids(stage)
        service.kill("KILL", victims[0])
        load.wait_results(FRAMES)
        assert (service.main_pid(), service.restarts()) == (launcher, 0)
        assert victims[0] not in service.pids(stage)
        load.finish()


def test_a_killed_launcher_is_replaced_by_systemd_and_no_frame_is_lost(machine, service):
    """Kill the main process."""
    with service.running(), loaded(machine) as load:
        load.wait_results(FRAMES)
        restarts = service.restarts()
        service.kill("KILL", service.main_pid())
        service.wait_restarted(restarts)
        load.wait_results(FRAMES)
        load.finish()


def test_the_watchdog_restarts_a_launcher_that_stands_still(machine, service):
    """Stop it, so that it gives no sign of life."""
    with service.changed("WatchdogSec=3"), service.running(), loaded(machine) as load:
        load.wait_results(FRAMES)
        restarts, launcher = service.restarts(), service.main_pid()
        service.kill("STOP", launcher)
        service.wait_restarted(restarts)
        assert "Watchdog timeout" in machine.run("journalctl", "--no-pager", "--unit", service.unit)
        load.wait_results(FRAMES)
        load.finish()


def test_the_watchdog_restarts_a_pipeline_of_which_a_stage_stays_away(machine, service):
    """Take the program away that would replace a killed process: the launcher lives, and gives no sign."""
    program = machine.root("/usr/lib/framepipe/framepipe-postprocess")
    aside = program.with_suffix(".aside")
    with service.changed("WatchdogSec=4"), service.running(), loaded(machine) as load:
        load.wait_results(FRAMES)
        restarts = service.restarts()
        program.rename(aside)
        try:
            service.kill("KILL", *service.pids("postprocess"))
            wait_for(
                "the status to say who is missing",
                lambda: "not ready: postprocess[0]" in service.show("StatusText"),
                10,
                service.explain,
            )
            wait_for("the watchdog", lambda: service.restarts() > restarts, 30, service.explain)
        finally:
            aside.rename(program)
        service.wait_active()
        load.wait_results(FRAMES)
        load.finish()


def test_a_process_that_is_killed_for_want_of_memory_costs_no_frame(machine, service):
    """Leave a process that starts too little memory."""
    group = machine.root("/sys/fs/cgroup/memory/framepipe.slice/framepipe@street.service")
    with service.running(), loaded(machine) as load:
        if not group.is_dir():
            pytest.skip("the machine has no memory controller of version 1 to read")

        def killed() -> int:
            words = (group / "memory.oom_control").read_text().split()
            return int(words[words.index("oom_kill") + 1])

        load.wait_results(FRAMES)
        before = killed()
        # Nobody starts another detect process meanwhile, which shall find too little room.
        launcher = service.main_pid()
        service.kill("STOP", launcher)
        service.kill("KILL", *service.pids_of("framepipe-detect"))
        wait_for("their memory to be free", lambda: not service.pids_of("framepipe-detect"), 30, service.explain)
        used = int((group / "memory.usage_in_bytes").read_text())
        try:
            machine.run("systemctl", "set-property", "--runtime", service.unit, f"MemoryMax={used + (4 << 20)}")
            service.kill("CONT", launcher)
            wait_for("the kernel to kill one", lambda: killed() > before, 60, service.explain)
        finally:
            machine.run("systemctl", "set-property", "--runtime", service.unit, "MemoryMax=infinity")
        service.wait_active()
        load.wait_results(FRAMES)
        load.finish()


def test_a_stop_under_load_drains_and_a_later_start_goes_on(machine, service):
    """Stop, and start again, while a client pushes."""
    with loaded(machine) as load:
        with service.running():
            load.wait_results(FRAMES)
        assert service.show("Result") == "success", service.explain()
        assert not machine.root("/dev/shm/framepipe-street").exists(), "it has drained"
        with service.running():
            load.wait_results(FRAMES)
            load.finish()


def test_a_client_that_pushes_through_restarts_loses_no_frame(machine, service):
    """Restart three times."""
    with service.running(), loaded(machine) as load:
        for _ in range(3):
            load.wait_results(FRAMES)
            machine.run("systemctl", "restart", service.unit)
        load.wait_results(FRAMES)
        assert load.finish() >= 4 * FRAMES


def test_a_reload_takes_what_changed_and_systemd_sees_it_begin_and_end(machine, service):
    """Ask for more processes by SIGHUP, as `systemctl reload` does, under load."""
    config = machine.root("/etc/framepipe/street.toml")
    before = config.read_text()
    with service.running(), loaded(machine) as load:
        load.wait_results(FRAMES)
        launcher, processes = service.main_pid(), len(service.pids("detect"))
        try:
            config.write_text(f"{before}\n[stages.detect]\nprocesses = {processes + 2}\n")
            service.kill("HUP", launcher)
            is_reloading = lambda: service.show("ActiveState") == "reloading"  # noqa: E731
            wait_for("systemd to see the reload", is_reloading, 30, service.explain)
            service.wait_active()
            assert len(service.pids("detect")) == processes + 2, service.explain()
        finally:
            config.write_text(before)
        machine.run("systemctl", "reload", service.unit)
        wait_for("the processes to be fewer", lambda: len(service.pids("detect")) == processes, 60, service.explain)
        assert (service.main_pid(), service.restarts()) == (launcher, 0)
        load.wait_results(FRAMES)
        load.finish()
