"""python -m framepipe."""

from __future__ import annotations

import json

import pytest

from framepipe.__main__ import main


def test_push_prints_a_result_for_each_image_of_a_folder(server, address, inbox, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(70):
        (photos / f"{index:02}.jpg").write_bytes(b"x")
    (photos / "notes.txt").write_bytes(b"x")
    common = ["--server", address, "--inbox", str(inbox)]
    assert main(["push", str(photos), "--stream", "cli", *common]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{photos}/{index:02}.jpg: nothing found" for index in range(70)]
    assert [len(p.sizes) for p in server.pushes] == [64, 6]

    assert main(["push", str(photos / "00.jpg"), "--json", "--stream", "cli", *common]) == 0
    assert json.loads(capsys.readouterr().out)["image_size"] == [4, 3]
    assert main(["push", str(photos / "no.jpg"), *common]) == 2
    assert "no.jpg" in capsys.readouterr().err


def test_json_says_whether_a_result_was_kept(server, address, inbox, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"x")
    for cached in (False, True):
        server.cached = cached
        assert main(["push", str(tmp_path / "a.jpg"), "--json", "--server", address, "--inbox", str(inbox)]) == 0
        assert json.loads(capsys.readouterr().out)["cached"] is cached


def test_push_lets_the_server_keep_the_images(server, address, inbox, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"image")
    push = ["push", str(tmp_path / "a.jpg"), "--server", address]
    for hold in ([], ["--hold", "reference"], ["--hold", "copy"]):
        assert main([*push, "--inbox", str(inbox), *hold]) == 0
    assert [p.hold for p in server.pushes] == [1, 1, 2] and not server.uploads
    inbox.rmdir()
    assert main([*push, "--upload", "--deadline-ms", "70"]) == 0
    assert [images for images, _ in server.uploads] == [[b"image"]]
    assert (server.pushes[-1].location, server.pushes[-1].deadline_ms) == ("", 70)
    assert capsys.readouterr().out == f"{tmp_path}/a.jpg: nothing found\n" * 4


@pytest.mark.parametrize("other", [["--hold", "copy"], ["--hold", "reference"], ["--inbox", "/dev/shm/inbox"]])
def test_an_upload_goes_with_neither_hold_nor_inbox(server, address, tmp_path, capsys, other):
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert main(["push", str(tmp_path / "a.jpg"), "--server", address, "--upload", *other]) == 2
    assert f"--upload with {' '.join(other)}: " in capsys.readouterr().err
    assert not server.pushes


def test_an_unknown_hold_is_refused_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit) as refusal:
        main(["push", "a.jpg", "--hold", "keep"])
    assert refusal.value.code == 2
    said = capsys.readouterr().err
    assert "keep" in said and "reference" in said and "copy" in said
