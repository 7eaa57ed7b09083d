"""Assemble the model repository: models/<name>/<version>/{model.onnx, manifest.toml}, and a text model's charset.

One manifest in config/models makes one model; its copy gets the graph's SHA-256 filled in, and an INT8
model's what its gate found. Each model is put together beside the repository and moved into place whole.
"""

import re
import shutil
import tomllib
from pathlib import Path

from fetch import sha256_of
from paths import FLOAT_GRAPHS, MANIFESTS, MODELS
from shipped import SHIPPED

EMPTY_SHA256 = re.compile(r'^sha256 = ""', re.MULTILINE)
VERSION = re.compile(r"^version = .*$", re.MULTILINE)


def charsets(manifest: dict) -> list[str]:
    """Return the files of characters that a manifest names; convert.py wrote them beside the float graphs."""
    kinds = [output["kind"] for output in manifest.get("attributes", {}).get("outputs", [])]
    return [kind["ctc_text"]["charset"] for kind in kinds if "ctc_text" in kind]


def place(manifest_path: Path, graph: Path, version: int, quantized: str, models: Path, only: bool) -> Path:
    """Put one version of a model into the repository, `only` it or beside others; return its folder."""
    text = manifest_path.read_text()
    name = tomllib.loads(text)["name"]
    if name != manifest_path.stem:
        raise ValueError(f"{manifest_path}: the name in it is {name}; name the file after it")
    filled, count = EMPTY_SHA256.subn(f'sha256 = "{sha256_of(graph)}"', text)
    if count != 1:
        raise ValueError(f'{manifest_path}: needs exactly one line `sha256 = ""` to fill in')
    filled = VERSION.sub(f"version = {version}", filled, count=1)

    arriving = models / f".{name}.new"
    shutil.rmtree(arriving, ignore_errors=True)
    folder = arriving / str(version)
    folder.mkdir(parents=True)
    shutil.copyfile(graph, folder / tomllib.loads(text)["file"])
    for charset in charsets(tomllib.loads(text)):
        shutil.copyfile(FLOAT_GRAPHS / charset, folder / charset)
    (folder / "manifest.toml").write_text(filled + quantized)
    if only or not (models / name).exists():
        shutil.rmtree(models / name, ignore_errors=True)
        arriving.rename(models / name)
    else:
        folder.rename(models / name / str(version))
        arriving.rmdir()
    return models / name / str(version)


def assemble(manifest_path: Path, graph: Path, quantized: str) -> None:
    """Put one model into the repository."""
    version = tomllib.loads(manifest_path.read_text())["version"]
    place(manifest_path, graph, version, quantized, MODELS, only=True)


def main() -> None:
    """Assemble every model that has a manifest."""
    manifests = {path.stem: path for path in sorted(MANIFESTS.glob("*.toml"))}
    if manifests.keys() != SHIPPED.keys():
        raise SystemExit(
            f"repository: manifests in {MANIFESTS} and rows of SHIPPED differ in "
            f"{sorted(manifests.keys() ^ SHIPPED.keys())}: add what is missing"
        )
    MODELS.mkdir(exist_ok=True)
    for name, path in manifests.items():
        graph = SHIPPED[name].graph()
        assemble(path, graph, graph.with_suffix(".toml").read_text() if SHIPPED[name].int8 else "")
        print(f"  {name}: {graph.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
