"""What `framepipe model quantize` puts into the repository reads, whatever a graph calls its layers, and is whole."""

import threading
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import repository
from agreement import NOT_FINITE, Agreement, of_output
from gate import Gate
from quantise_model import why_not
from repository import place

TEXT = 'name = "small"\nversion = 3\nfile = "model.onnx"\nsha256 = ""\n\n[input]\ntensor = "x"\n'
ODD_NAMES = ('a "quoted" one', "back\\slash\\u12", "line\nend\ttab", "del\x7f", "\U0001f600 é", "'''", "]\n[quantized]")


def gate_of(layers: tuple[str, ...], cosine: float = 0.99) -> Gate:
    """Return a gate's result with these layers left float."""
    return Gate({"out": Agreement("cosine", cosine)}, 200, 1.5, (2000, 1000), layers, len(layers) + 1, "cpu")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Return a file that stands for a graph."""
    path = tmp_path / "some.onnx"
    path.write_bytes(b"graph")
    return path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a repository without models."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_layers_may_have_any_name(graph, models):
    """Quotes, backslashes, ends of lines, what JSON escapes in another way than TOML: all come back."""
    folder = place(TEXT, "small-int8", None, graph, gate_of(ODD_NAMES).toml(), models)
    manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    assert tuple(manifest["quantized"]["float_layers"]) == ODD_NAMES
    assert manifest["name"] == "small-int8"
    assert manifest["version"] == 1
    plain = gate_of(("Conv_1", "Conv_2")).toml()
    assert 'float_layers = ["Conv_1", "Conv_2"]\n' in plain, "names that need no escape are written as ever"


def test_a_manifest_that_would_not_read_leaves_nothing(graph, models):
    """The whole text is read before it is moved into place: here a section that is there twice."""
    section = gate_of(("a",)).toml()
    with pytest.raises(ValueError, match="quantized"):
        place(TEXT + section, "small-int8", None, graph, section, models)
    assert not list(models.iterdir())


def test_a_version_is_read_by_others_and_a_taken_one_is_left_alone(graph, models):
    """Its folder is as open as any; a version that was named and came there meanwhile stays what it is."""
    folder = place(TEXT, "small-int8", 4, graph, "", models)
    (models / "plain").mkdir()
    assert folder.stat().st_mode == (models / "plain").stat().st_mode
    before = (folder / "manifest.toml").read_bytes()
    with pytest.raises(FileExistsError, match="small-int8 has a version 4"):
        place(TEXT, "small-int8", 4, graph, gate_of(()).toml(), models)
    assert (folder / "manifest.toml").read_bytes() == before
    assert {path.name for path in models.iterdir()} == {"plain", "small-int8"}


def test_two_runs_that_place_at_once_both_have_a_whole_version_of_their_own(graph, models, monkeypatch):
    """Both find the same version free, and each has its own files."""
    both_chose, chosen = threading.Barrier(2, timeout=30), threading.local()
    real = repository.highest_version

    def highest(model: Path) -> int:
        found = real(model)
        if not hasattr(chosen, "once"):
            chosen.once = found
            both_chose.wait()
        return found

    monkeypatch.setattr(repository, "highest_version", highest)
    placed = {}

    def run(name: str) -> None:
        own = graph.with_name(f"{name}.onnx")
        own.write_bytes(name.encode() * 100_000)
        section = gate_of((name,)).toml()
        placed[name] = place(TEXT, "small-int8", None, own, section, models, {"report.json": name.encode()})

    threads = [threading.Thread(target=run, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {folder.name for folder in placed.values()} == {"1", "2"}
    for name, folder in placed.items():
        manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
        assert (folder / "report.json").read_text() == name
        assert manifest["quantized"]["float_layers"] == [name]
        assert str(manifest["version"]) == folder.name
        assert manifest["sha256"] == repository.sha256_of(folder / "model.onnx")
        assert (folder / "model.onnx").read_bytes() == name.encode() * 100_000
    assert [path.name for path in models.iterdir()] == ["small-int8"]


@pytest.mark.parametrize("is_forced", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused_though_forced(bad, is_forced):
    """They count as no agreement, whichever other outputs agree, and as nothing that can be forced."""
    wanted = np.ones((3, 4))
    found = wanted.copy()
    found[1, 2] = bad
    agreement = of_output({"vector": {}}, wanted, found)
    assert agreement == Agreement("cosine", 0.0, {NOT_FINITE: 1})
    gate = replace(gate_of(("a",)), outputs={"good": Agreement("cosine", 0.99), "bad": agreement})
    assert not gate.passed
    reason = why_not({"is_forced": is_forced}, "small", gate)
    assert "output bad is no finite number (NaN or infinity) on 1 of 200 inputs" in reason


def test_outputs_that_are_opposite_are_an_agreement_that_a_manifest_can_say():
    """A cosine below 0 is out of the manifest's range."""
    section = tomllib.loads(gate_of((), -0.5).toml())["quantized"]
    assert section["agreement"] == 0
