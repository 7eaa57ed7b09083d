"""Socket activation: systemd listens, the first client starts the pipeline, and what systemd opened stays systemd's."""

import contextlib

from service import TCP, loaded

SOCKETS = ["framepipe@street.socket", "framepipe-unix@street.socket", "framepipe-http@street.socket"]
HTTP = "http://127.0.0.1:9464/readyz"
UNIX = "/run/framepipe/street/grpc.sock"


@contextlib.contextmanager
def listening(machine, service):
    """Let systemd listen, meanwhile."""
    machine.run("systemctl", "start", *SOCKETS)
    try:
        yield
    finally:
        machine.run("systemctl", "stop", *SOCKETS)
        machine.run("systemctl", "stop", service.unit)
        machine.try_run("systemctl", "reset-failed", service.unit)


def test_the_first_client_starts_the_pipeline_which_takes_all_listeners(machine, service):
    """Come over each."""
    with listening(machine, service):
        assert not service.is_active(), "nobody has come yet"
        with loaded(machine, f"unix:{UNIX}") as over_unix, loaded(machine, TCP) as over_tcp:
            over_unix.wait_results(4)
            over_tcp.wait_results(4)
            said = machine.run("journalctl", "--no-pager", "--unit", service.unit)
            assert f"listening on unix:{UNIX}, which the service manager has opened" in said
            assert "listening on 127.0.0.1:50051, which the service manager has opened" in said
            assert "listening on 127.0.0.1:9464, which the service manager has opened" in said
            fetch = f"import urllib.request; print(urllib.request.urlopen({HTTP!r}, timeout=10).status)"
            assert machine.run("python3", "-c", fetch).strip() == "200"
            over_unix.finish()
            over_tcp.finish()
        for pid in service.pids("gateway") + service.pids("detect"):
            told = machine.root(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            names = {variable.split(b"=")[0] for variable in told}
            assert not names & {b"LISTEN_FDS", b"LISTEN_PID", b"LISTEN_FDNAMES", b"NOTIFY_SOCKET", b"WATCHDOG_USEC"}
        machine.run("systemctl", "stop", service.unit)
        assert machine.root(UNIX).is_socket(), "the file is systemd's"


def test_clients_that_come_while_it_restarts_wait_and_are_not_refused(machine, service):
    """Connect all the time."""
    with listening(machine, service):
        machine.run("systemctl", "start", service.unit)
        restart = machine.start("systemctl", "restart", service.unit)
        # Connected at any moment of the restart: there is always somebody who listens.
        connect = "import socket; socket.create_connection(('127.0.0.1', 50051), 5).close()"
        while restart.poll() is None:
            machine.run("python3", "-c", connect)
        assert restart.returncode == 0, service.explain()


def test_a_listener_of_another_name_is_refused_by_name(machine, service):
    """Mistype one."""
    unit = "framepipe-odd@.socket"
    lines = ["[Socket]", "ListenStream=127.0.0.1:50052", "FileDescriptorName=grcp", "Service=framepipe@%i.service", ""]
    machine.write(f"/run/systemd/system/{unit}", "\n".join(lines))
    with service.changed("Restart=no"):
        machine.run("systemctl", "start", "framepipe-odd@street.socket")
        try:
            started = machine.try_run("systemctl", "start", service.unit)
            assert started.returncode != 0
            said = machine.run("journalctl", "--no-pager", "--unit", service.unit)
            assert 'a listener was inherited under the name "grcp": give it one of these' in said
        finally:
            machine.run("systemctl", "stop", "framepipe-odd@street.socket")
            machine.root(f"/run/systemd/system/{unit}").unlink()
            machine.run("systemctl", "daemon-reload")
            machine.try_run("systemctl", "reset-failed", service.unit)


def test_without_sockets_the_launcher_listens_and_removes_its_own_socket(machine, service):
    """Start without."""
    with service.running():
        assert machine.root(UNIX).is_socket()
    assert not machine.root(UNIX).exists()
