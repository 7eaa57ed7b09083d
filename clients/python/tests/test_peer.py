"""Addresses where no framepipe is: each is told in plain words, and in time."""

from __future__ import annotations

import socket
import threading
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest

import framepipe
from framepipe.__main__ import main

FOR_EVER_S = 3600


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *what):
        pass


@contextmanager
def http():
    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def other_grpc():
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def silent():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


class Clock:
    """A second passes between any two looks at it, however long that takes."""

    def __init__(self):
        self.now = 0

    def monotonic(self):
        self.now += 1
        return self.now


@contextmanager
def nobody():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def is_unavailable(match):
    return pytest.raises(framepipe.Unavailable, match=match)


def test_who_speaks_no_grpc_is_told_at_once(inbox):
    with http() as address, framepipe.Client(address, "s", inbox=inbox, reconnect_s=FOR_EVER_S) as client:
        told = f"what listens at {address} is no framepipe"
        with is_unavailable(told):
            client.wait_ready(FOR_EVER_S)
        with is_unavailable(told):
            client.push([b"x"])
        with is_unavailable(told):
            next(client.results())
        assert not list(inbox.iterdir())


def test_a_grpc_server_that_is_no_framepipe_is_told_at_once():
    with other_grpc() as address, framepipe.Client(address) as client, is_unavailable("is no framepipe"):
        client.wait_ready(FOR_EVER_S)


def test_that_nobody_listens_is_told_in_time_and_warned_of_meanwhile(inbox, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(framepipe.backoff, "time", Clock())
    with nobody() as address, framepipe.Client(address, "s", inbox=inbox, reconnect_s=6) as client:
        told = rf"framepipe at {address}: nothing listens there: is it up \(framepipe up --config FILE\)"
        with is_unavailable(f"not ready after 6 s: {told}"):
            client.wait_ready(6)
        assert not caplog.records, "who waits for it knows that it may not be there"
        with is_unavailable(told):
            client.push([b"x"])
        assert ["nothing listens there" in one.getMessage() for one in caplog.records] == [True]
        with is_unavailable("results of s broke off and could not be resumed: .*nothing listens there"):
            next(client.results())
        assert len(caplog.records) == 2
    with framepipe.Client(f"unix:{tmp_path}/none") as client, is_unavailable("/none: there is no such socket"):
        client.wait_ready(6)


def test_that_one_who_listens_says_nothing_is_told(inbox, monkeypatch):
    monkeypatch.setattr(framepipe.client, "CALL_TIMEOUT_S", 0.2)
    with silent() as address, framepipe.Client(address, "s", inbox=inbox, reconnect_s=0) as client:
        told = rf"framepipe at {address}: nobody answers there: is it up \(framepipe up --config FILE\)"
        with is_unavailable(f"not ready after 0.2 s: {told}"):
            client.wait_ready(0.2)
        with is_unavailable(told):
            client.push([b"x"])
        assert not list(inbox.iterdir())


@pytest.mark.parametrize(
    "wrong", ["localhost", "localhost:", "localhost:0", "localhost:99999", "http://localhost:1", "unix:", "dns:", ""]
)
def test_an_address_without_a_host_or_a_port_is_refused(wrong):
    with pytest.raises(ValueError, match=r'give "host:port".*or "unix:/path"') as caught:
        framepipe.Client(wrong)
    assert repr(wrong) in str(caught.value) and isinstance(caught.value, framepipe.InvalidRequest)


@pytest.mark.parametrize("good", ["localhost:1", "10.0.0.7:65535", "[::1]:50051", "unix:/run/s", "unix:s"])
def test_an_address_with_both_is_taken(good):
    framepipe.Client(good).close()


@pytest.mark.parametrize("target", ["dns:///h:1", "dns:h:1", "ipv4:10.0.0.7:1", "ipv6:[::1]:1", "unix-abstract:x"])
def test_what_the_library_takes_besides_is_taken(target):
    framepipe.Client(target).close()


def test_the_command_tells_it_too(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"x")
    with http() as address:
        assert main(["push", str(tmp_path / "a.jpg"), "--server", address]) == 2
        assert capsys.readouterr().err == (
            f"framepipe: what listens at {address} is no framepipe: give the address that framepipe has "
            "(server.tcp, server.unix)\n"
        )
    assert main(["push", str(tmp_path / "a.jpg"), "--server", "localhost"]) == 2
    assert "address 'localhost': give" in capsys.readouterr().err
