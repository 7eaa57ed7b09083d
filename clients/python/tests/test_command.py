"""python -m framepipe."""

from __future__ import annotations

import json

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
