"""push: what reaches the server, and what becomes of the file in the inbox."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import fake_server
import grpc
import pytest

import framepipe
from framepipe import images


def blob_of(request) -> list[bytes]:
    with open(request.location, "rb") as file:
        parts = [file.read(size) for size in request.sizes]
        assert file.read() == b"", "the sizes cover the blob"
    return parts


def test_paths_and_bytes_become_one_blob_in_order(client, server, inbox, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"first" * 1_000_000)
    batch = client.push(
        [tmp_path / "a.jpg", b"second", bytearray(b"3rd"), ("door", b"4th"), ("gate", tmp_path / "a.jpg")]
    )
    request = server.pushes[0]
    assert blob_of(request) == [b"first" * 1_000_000, b"second", b"3rd", b"4th", b"first" * 1_000_000]
    assert list(request.names) == ["a.jpg", "image-1", "image-2", "door", "gate"]
    assert (batch.stream, batch.first_frame, batch.accepted) == ("cam-1", 100, 5)
    assert batch.blob == request.location and not request.HasField("raw")
    assert os.listdir(inbox) == [os.path.basename(request.location)], "no draft is left"


def test_a_blob_is_readable_by_a_server_of_another_user_whatever_the_umask(client, server):
    former = os.umask(0o077)
    try:
        client.push([b"x"])
    finally:
        os.umask(former)
    assert os.stat(server.pushes[0].location).st_mode & 0o777 == 0o644


def test_arrays_are_raw_frames(client, server):
    numpy = pytest.importorskip("numpy")
    frame = numpy.arange(2 * 4 * 3, dtype=numpy.uint8).reshape(2, 4, 3)
    client.push([frame, ("b", frame[:, ::-1])], pixel_format="bgr24", names=["one", "two"])
    request = server.pushes[0]
    assert blob_of(request) == [frame.tobytes(), frame[:, ::-1].tobytes()]
    assert request.raw == images.raw_format("bgr24", width=4, height=2)
    client.push([frame])
    assert server.pushes[1].raw == images.raw_format("rgb24", width=4, height=2)
    client.push([frame[:, :, 0]])
    assert server.pushes[2].raw == images.raw_format("gray8", width=4, height=2)


@pytest.mark.parametrize("pixel_format", ["nv12", "i420"])
def test_arrays_of_planes_are_raw_frames_of_two_thirds_of_their_rows(client, server, pixel_format):
    numpy = pytest.importorskip("numpy")
    planes = numpy.arange(6 * 8, dtype=numpy.uint8).reshape(6, 8)
    client.push([planes, planes[:, ::-1]], pixel_format=pixel_format)
    request = server.pushes[0]
    assert blob_of(request) == [planes.tobytes(), planes[:, ::-1].tobytes()]
    number = {"nv12": 4, "i420": 5}[pixel_format]
    assert (request.raw.format, request.raw.width, request.raw.height, request.raw.stride) == (number, 8, 4, 0)


def test_files_of_planes_say_their_stride(client, server):
    client.push_files(["/srv/a.nv12"], raw=images.raw_format("nv12", 5, 3, stride=64))
    raw = server.pushes[0].raw
    assert (raw.format, raw.width, raw.height, raw.stride) == (4, 5, 3, 64)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("a.jpg", {}, "give a list"),
        ([], {}, "no images"),
        ([b"x", 7], {}, "image 1 is a int"),
        ([b"x"], {"names": ["a", "b"]}, "2 names for 1 images"),
        ([b"x"], {"pixel_format": "rgb24"}, "is for arrays"),
        ([memoryview(bytes(12)).cast("B", (2, 2, 3)), b"x"], {}, "one shape"),
        ([memoryview(bytes(16)).cast("B", (2, 2, 4))], {}, r"\(height, width, 3\)"),
        ([memoryview(bytes(12)).cast("B", (2, 2, 3))], {"pixel_format": "gray8"}, "does not go with"),
        ([memoryview(bytes(12)).cast("B", (2, 2, 3))], {"pixel_format": "rgba"}, "it is one of rgb24"),
        ([memoryview(bytes(12)).cast("B", (2, 2, 3))], {"pixel_format": "nv12"}, "does not go with"),
        ([memoryview(bytes(16)).cast("B", (4, 4))], {"pixel_format": "i420"}, r"\(4, 4\): it must be"),
        ([memoryview(bytes(15)).cast("B", (3, 5))], {"pixel_format": "nv12"}, "even sides; push_files"),
        ([memoryview(bytes(16)).cast("I")], {}, "uint8"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_a_file_is_made(client, server, inbox, given, options, message):
    with pytest.raises(framepipe.InvalidRequest, match=message):
        client.push(given, **options)
    assert not server.pushes and not os.listdir(inbox)


def test_a_source_that_cannot_be_read_leaves_nothing_behind(client, server, inbox):
    with pytest.raises(FileNotFoundError):
        client.push([b"x", "/no/such/file.jpg"])
    assert not server.pushes and not os.listdir(inbox)


def test_an_absent_inbox_is_named_with_the_remedy(address, tmp_path, monkeypatch):
    monkeypatch.setenv("FRAMEPIPE_INBOX", str(tmp_path / "nowhere"))
    with (
        framepipe.Client(address) as client,
        pytest.raises(framepipe.InboxError, match=r"nowhere does not exist.*is it up.*inbox=.*FRAMEPIPE_INBOX"),
    ):
        client.push([b"x"])


def test_an_inbox_that_is_no_folder_or_not_the_servers_is_told_with_what_names_it(server, address, inbox, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        framepipe.Client(address, inbox=tmp_path / "file") as client,
        pytest.raises(framepipe.InboxError, match=r"file is no folder: .*inbox=.*FRAMEPIPE_INBOX"),
    ):
        client.push([b"x"])
    server.push_faults.append(grpc.StatusCode.PERMISSION_DENIED)
    with (
        framepipe.Client(address, inbox=inbox) as client,
        pytest.raises(framepipe.PermissionDenied, match=r"inbox=.*FRAMEPIPE_INBOX"),
    ):
        client.push([b"x"])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, framepipe.InvalidRequest),
        (grpc.StatusCode.PERMISSION_DENIED, framepipe.PermissionDenied),
        (grpc.StatusCode.NOT_FOUND, framepipe.NotFound),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, framepipe.Overloaded),
        (grpc.StatusCode.DATA_LOSS, framepipe.FramepipeError),
    ],
)
def test_a_refused_push_is_typed_and_deletes_its_blob(client, server, inbox, code, kind):
    server.push_faults.append(code)
    with pytest.raises(kind, match="the frame table is full") as caught:
        client.push([b"x"])
    assert caught.value.code == code and type(caught.value) is kind
    assert not os.listdir(inbox)


def test_waiting_out_an_overload_pushes_once(client, server):
    server.push_faults.extend([grpc.StatusCode.RESOURCE_EXHAUSTED] * 2)
    assert client.push([b"x"], wait=20).first_frame == 100
    assert len(server.pushes) == 3 and len(server.answers) == 1
    assert all(15_000 <= push.wait_ms <= 20_000 for push in server.pushes), "the server waits, not the client"


def test_an_overload_tells_when_to_try_again(client, server):
    server.push_faults.append(grpc.StatusCode.RESOURCE_EXHAUSTED)
    with pytest.raises(framepipe.Overloaded) as caught:
        client.push([b"x"])
    assert caught.value.retry_after == 0.04


def test_a_push_whose_answer_was_lost_is_repeated_under_the_same_key_and_enqueues_once(client, server):
    server.lose_push_answers = 2
    batch = client.push([b"x", b"y"])
    assert len(server.pushes) == 3 and len({p.idempotency_key for p in server.pushes}) == 1
    assert server.pushes[0] == server.pushes[2]
    assert batch.first_frame == 100 and server.next_frame == 102
    assert client.push([b"x"]).first_frame == 102, "each push has a key of its own"


def test_a_failed_push_with_a_key_of_the_callers_keeps_its_blob_for_the_retry(server, address, inbox):
    with framepipe.Client(address, stream="cam-1", inbox=inbox, reconnect_s=0) as client:
        server.lose_push_answers = 2
        with pytest.raises(framepipe.Unavailable):
            client.push([b"x"])
        assert not os.listdir(inbox), "nobody can repeat a push whose key nobody knows"
        with pytest.raises(framepipe.Unavailable):
            client.push([b"x"], idempotency_key="mine")
        client.push([b"x"], idempotency_key="mine")
        assert server.pushes[1] == server.pushes[2], "the server may have the first call's location on its books"
        assert blob_of(server.pushes[2]) == [b"x"] and len(os.listdir(inbox)) == 1


def test_files_and_locations_pass_through_uncopied(client, server, inbox):
    client.push_files(["/srv/a.jpg", "/srv/b.jpg"], deadline_ms=70)
    assert list(server.pushes[0].files) == ["/srv/a.jpg", "/srv/b.jpg"] and server.pushes[0].deadline_ms == 70
    client.push_files(location="/srv/blob", sizes=[3, 4], names=["a", "b"], raw=images.raw_format("gray8", 1, 3))
    assert (server.pushes[1].location, list(server.pushes[1].sizes)) == ("/srv/blob", [3, 4])
    for wrong in ({}, {"files": ["/a"], "location": "/b", "sizes": [1]}, {"location": "/b"}):
        with pytest.raises(framepipe.InvalidRequest):
            client.push_files(**wrong)
    assert not os.listdir(inbox)


def test_what_the_server_copies_the_client_need_not_keep(server, address, inbox):
    with framepipe.Client(address, stream="cam-1", inbox=inbox, reconnect_s=0) as client:
        assert client.push([b"x"], hold="copy").blob is None and not os.listdir(inbox)
        client.push_files(["/srv/a.jpg"], hold="copy")
        client.push_files(["/srv/a.jpg"])
        assert [push.hold for push in server.pushes] == [2, 2, 1]
        server.lose_push_answers = 1
        with pytest.raises(framepipe.Unavailable):
            client.push([b"y"], hold="copy", idempotency_key="mine")
        assert len(os.listdir(inbox)) == 1, "it may have to be pushed again"
        client.push([b"y"], hold="copy", idempotency_key="mine")
        with pytest.raises(framepipe.InvalidRequest, match="'keep': it is one of reference, copy"):
            client.push([b"x"], hold="keep")
        assert not os.listdir(inbox)


def test_an_upload_sends_the_images_in_pieces_and_makes_no_file(client, server, inbox, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"first" * 600_000)
    planes = memoryview(bytes(range(16)))
    batch = client.upload([tmp_path / "a.jpg", b"", ("door", planes)], deadline_ms=5)
    assert (batch.stream, batch.first_frame, batch.accepted, batch.blob) == ("cam-1", 100, 3, None)
    sent, largest = server.uploads[0]
    assert sent == [b"first" * 600_000, b"", bytes(planes)] and largest <= 1 << 20
    push = server.pushes[0]
    assert (list(push.names), push.deadline_ms, push.location) == (["a.jpg", "image-1", "door"], 5, "")
    client.upload([memoryview(bytes(12)).cast("B", (2, 2, 3))], pixel_format="bgr24", names=["raw"])
    assert server.pushes[1].raw == images.raw_format("bgr24", width=2, height=2)
    assert not os.listdir(inbox)


def test_an_upload_is_refused_waits_and_is_repeated_as_a_push_is(client, server):
    large = bytes(3_000_000)
    server.push_faults.append(grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(framepipe.InvalidRequest, match="the frame table is full"):
        client.upload([large])
    server.push_faults.append(grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert client.upload([large], wait=20).first_frame == 100
    server.lose_push_answers = 1
    client.upload([large])
    assert len(server.uploads) == 3 and len(server.answers) == 2, "the answer that was lost was asked for again"
    assert len({push.idempotency_key for push in server.pushes[3:]}) == 1


def test_a_file_that_cannot_be_uploaded_says_so(client, server, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        client.upload([b"x", tmp_path / "none"])
    (tmp_path / "a.jpg").write_bytes(bytes(3_000_000))
    monkeypatch.setattr(os, "pread", lambda *given: b"")
    with pytest.raises(OSError, match=r"a\.jpg became shorter"):
        client.upload([tmp_path / "a.jpg"])
    assert not server.pushes


def test_without_a_stream_the_server_names_one_and_first_pushes_at_once_share_it(server, address, inbox):
    with framepipe.Client(address, inbox=inbox) as client:
        with pytest.raises(framepipe.InvalidRequest, match="no stream yet"):
            client.results()
        threads = [threading.Thread(target=client.push, args=([b"x"],)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.stream == "made-by-server"
        assert [p.stream for p in server.pushes] == [""] + ["made-by-server"] * 3


def test_ready_means_that_the_server_says_so(client, server, tmp_path):
    client.wait_ready(20)
    server.serving = False
    with pytest.raises(framepipe.Unavailable, match="not serving"):
        client.wait_ready(0.1)
    with framepipe.Client(f"unix:{tmp_path}/none") as nobody, pytest.raises(framepipe.Unavailable, match="not ready"):
        nobody.wait_ready(0.1)


def test_a_server_that_starts_in_mid_outage_is_found(address):
    """Regression: the library stood still between attempts that fail at once; a server in this process hid it."""
    attempts = threading.Semaphore(0)
    with framepipe.Client(address) as client:
        check = client._health._check
        client._health._check = lambda *given, **options: attempts.release() or check(*given, **options)
        waiting = threading.Thread(target=client.wait_ready, args=(30,))
        waiting.start()
        for _ in range(6):
            assert attempts.acquire(timeout=20)
        command = [sys.executable, fake_server.__file__, address]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        server = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
        try:
            assert server.stdout.readline() == b"serving\n"
            waiting.join(15)
            assert not waiting.is_alive(), "the server is there, and the client does not see it"
        finally:
            server.kill()
            server.communicate()
            waiting.join(30)
