"""Control groups: each process lies in one that is named after its stage, with either version of the interface."""

from machine import booted
from service import Service

STAGES = ("ingest", "preprocess", "detect", "postprocess", "attribute", "gateway", "keeper")


def check_groups(service: Service) -> None:
    """Look where systemd finds each process."""
    with service.running():
        expected = {"launcher": [service.main_pid()], **{stage: service.pids(stage) for stage in STAGES}}
        for name, pids in expected.items():
            assert pids, name
            for pid in pids:
                groups = service.machine.root(f"/proc/{pid}/cgroup").read_text().splitlines()
                of_manager = [line for line in groups if line.startswith("0::") or ":name=systemd:" in line]
                ends = [line.rsplit("/", 2)[-2:] for line in of_manager]
                assert [service.unit, name] in ends, f"{name}: {groups}"
        shown = service.machine.run("systemctl", "status", "--no-pager", service.unit)
        assert all(f"─{name}" in shown for name in expected), shown
        service.kill("KILL", *service.pids("detect"))
        service.machine.run("systemctl", "restart", service.unit)
        assert service.is_active(), "groups that a former launcher has made are no hindrance"


def test_processes_lie_in_groups_of_their_stages_in_hierarchies_of_either_version(service):
    """Look where both are mounted, as on this host."""
    check_groups(service)


def test_processes_lie_in_groups_of_their_stages_where_there_is_version_2_alone(allowed, package):
    """Boot a machine of the kind that most are."""
    with booted(only_version_2=True) as machine:
        machine.run("dpkg", "--install", package)
        check_groups(Service(machine))


def test_without_delegation_nothing_happens(service):
    """Take the delegation away."""
    with service.changed("Delegate=no"), service.running():
        pid = service.main_pid()
        groups = service.machine.root(f"/proc/{pid}/cgroup").read_text()
        assert "/launcher" not in groups
        assert "control group" not in service.machine.journal()
