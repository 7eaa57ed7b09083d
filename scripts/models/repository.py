"""Assemble the model repository: models/<name>/<version>/{model.onnx, manifest.toml}.

One manifest in config/models makes one model; its copy gets the graph's SHA-256 filled in. Each
model is put together beside the repository and moved into place whole.
"""

import re
import shutil
import tomllib
from pathlib import Path

from fetch import sha256_of
from paths import BUILD, MANIFESTS, MODELS
from shipped import SHIPPED

EMPTY_SHA256 = re.compile(r'^sha256 = ""', re.MULTILINE)


def assemble(manifest_path: Path, graph: Path, gate_note: str) -> None:
    """Put one model into the repository; `gate_note` ends its manifest."""
    text = manifest_path.read_text()
    manifest = tomllib.loads(text)
    name = manifest["name"]
    if name != manifest_path.stem:
        raise ValueError(f"{manifest_path}: the name in it is {name}; name the file after it")
    filled, count = EMPTY_SHA256.subn(f'sha256 = "{sha256_of(graph)}"', text)
    if count != 1:
        raise ValueError(f'{manifest_path}: needs exactly one line `sha256 = ""` to fill in')

    arriving = BUILD / "assembling" / name
    shutil.rmtree(arriving, ignore_errors=True)
    version = arriving / str(manifest["version"])
    version.mkdir(parents=True)
    shutil.copyfile(graph, version / manifest["file"])
    (version / "manifest.toml").write_text(filled + gate_note)
    shutil.rmtree(MODELS / name, ignore_errors=True)
    arriving.rename(MODELS / name)


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
        model = SHIPPED[name]
        graph = model.graph()
        assemble(path, graph, model.gate_note().read_text() if model.int8 else "")
        print(f"  {name}: {graph.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
