"""Assemble the model repository: models/<name>/<version>/{model.onnx, manifest.toml}, and a text model's charset.

One manifest in config/models makes one model; its copy gets the graph's SHA-256 filled in, and an INT8
model's what its gate found. Each version is put together beside the models, in a hidden folder of its own, and moved
into place whole; of two that want one place, the first has it.
"""

import errno
import re
import shutil
import tempfile
import tomllib
from pathlib import Path

from fetch import sha256_of
from paths import FLOAT_GRAPHS, MANIFESTS, MODELS
from shipped import SHIPPED
from toml_text import toml_value

KEY = r"^{}\s*=.*$"
# Versions of one model that others may place while one is placed.
TAKEN_MAX = 100


def charsets(manifest: dict) -> list[str]:
    """Return the files of characters that a manifest names; convert.py wrote them beside the float graphs."""
    kinds = [output["kind"] for output in manifest.get("attributes", {}).get("outputs", [])]
    return [kind["ctc_text"]["charset"] for kind in kinds if "ctc_text" in kind]


def highest_version(model: Path) -> int:
    """Return the highest version of a model in the repository; 0 where there is none."""
    return max((int(folder.name) for folder in model.glob("*") if folder.name.isdigit()), default=0)


def filled(text: str, values: dict) -> str:
    """Return a manifest with some of its top keys set."""
    top, bracket, rest = text.partition("\n[")
    for key, value in values.items():
        line = f"{key} = {toml_value(value)}".replace("\\", r"\\")
        top, count = re.subn(KEY.format(key), line, top, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"the manifest needs exactly one line `{key} = ...` before its sections, and has {count}")
    text = top + bracket + rest
    written = tomllib.loads(text)
    if wrong := [key for key, value in values.items() if written[key] != value]:
        raise ValueError(f"the manifest's {wrong} are not plain lines `key = value` before its sections: write them so")
    return text


def place(
    text: str,
    name: str,
    version: int | None,
    graph: Path,
    quantized: str,
    models: Path,
    files: dict[str, bytes] | None = None,
) -> Path:
    """Put one version of a model beside others into the repository, whole or not at all; return its folder.

    `text` is the manifest without what the graph is and how near it comes; `files` are others in the folder. Where no
    version is named, it is the highest and one, as they are in the end. A manifest that would not read is a ValueError,
    a version that is there a FileExistsError.
    """
    values = {"name": name, "file": "model.onnx", "sha256": sha256_of(graph)}
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=models) as own:
        # Within, since that one is its owner's alone to read.
        arriving = Path(own) / "version"
        arriving.mkdir()
        shutil.copyfile(graph, arriving / "model.onnx")
        for other, content in (files or {}).items():
            (arriving / other).write_bytes(content)
        for _ in range(TAKEN_MAX):
            number = version or highest_version(models / name) + 1
            manifest = filled(text, values | {"version": number}) + quantized
            tomllib.loads(manifest)
            (arriving / "manifest.toml").write_text(manifest, encoding="utf-8")
            folder = models / name / str(number)
            folder.parent.mkdir(exist_ok=True)
            try:
                return arriving.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if version:
                    break
    raise FileExistsError(f"{name} has a version {number}, which came there just now: name another")


def assemble(manifest_path: Path, graph: Path, quantized: str) -> None:
    """Put one shipped model into the repository, in place of all that is there of it."""
    text = manifest_path.read_text(encoding="utf-8")
    manifest = tomllib.loads(text)
    name = manifest["name"]
    if name != manifest_path.stem:
        raise ValueError(f"{manifest_path}: the name in it is {name}; name the file after it")
    if manifest["sha256"]:
        raise ValueError(f'{manifest_path}: has a sha256; write `sha256 = ""`, which is filled in')
    shutil.rmtree(MODELS / name, ignore_errors=True)
    files = {charset: (FLOAT_GRAPHS / charset).read_bytes() for charset in charsets(manifest)}
    place(text, name, manifest["version"], graph, quantized, MODELS, files)


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
        assemble(path, graph, graph.with_suffix(".toml").read_text(encoding="utf-8") if SHIPPED[name].int8 else "")
        print(f"  {name}: {graph.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
