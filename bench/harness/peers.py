"""Who is measured: the table of peers. A row says which environment, server, client and workloads a peer has."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.process import tree
from harness.workloads import Workload

ROOT = Path(__file__).resolve().parents[2]
DETECT_PROCESSES = 2
GROUP = 32
_SEMAPHORES = r"sem\.mp-\w+"
"""Semaphores of Python's multiprocessing."""


@dataclass(frozen=True)
class Place:
    """Where a server runs: its port, its own folder, the clients' inbox, and what it is made of."""

    port: int
    folder: Path
    inbox: Path
    environments: Path
    binaries: Path
    models: Path
    onnxruntime: Path

    @property
    def address(self) -> str:
        """Where the server listens."""
        return f"127.0.0.1:{self.port}"

    def python(self, environment: str) -> str:
        """Return the interpreter of an environment."""
        return str(self.environments / f"venv-{environment}" / "bin/python")


@dataclass(frozen=True)
class Command:
    """How a server is started."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A row. `environment` is the client's too; `victims` finds the processes that recovery kills one of.

    `leaves` is what names in /dev/shm look like that stay behind when it is killed.
    """

    name: str
    about: str
    environment: str
    driver: str
    serve: Callable[[Workload, Place], Command | None]
    runs: Callable[[Workload], bool]
    options: Callable[[Workload, Place], dict] = lambda workload, place: {}
    victims: Callable[[int, str], list[int]] = lambda root, log: []
    leaves: Callable[[Place], str] = lambda place: _SEMAPHORES


def _framepipe(workload: Workload, place: Place) -> Command:
    config = place.folder / f"{workload.name}.toml"
    config.write_text(_framepipe_config(workload, place))
    folders = [f"--{name}-dir={place.folder / name}" for name in ("run", "state")]
    where = ["--tcp", place.address, "--http", "", "--inbox", str(place.inbox)]
    return Command([str(place.binaries / "framepipe"), "up", "--config", str(config), *folders, *where])


def _framepipe_config(workload: Workload, place: Place) -> str:
    attributes = ", ".join(f'"{name}"' for name in workload.attributes)
    lines = [
        f'name = "{_name(place)}"',
        "[pipeline]",
        f'detector = "{workload.detector or "no-operation-416"}"',
        f"attributes = [{attributes}]",
        f"crops_max = {workload.crops_max}",
        f"crop_batch_max = {min(workload.crops_max, 32)}",
        "[paths]",
        f'models = "{place.models}"',
        f'onnxruntime = "{place.onnxruntime}"',
        # One process each, whatever the machine's cores would have by the profile: all peers have the same layout.
        *(f"[stages.{stage}]\nprocesses = 1" for stage in ("ingest", "preprocess", "postprocess")),
        "[stages.detect]",
        f"processes = {DETECT_PROCESSES}",
        "threads = 1",
        "batch_max = 1",
        "[stages.attribute]",
        f"processes = {workload.attribute_processes}",
        "threads = 1",
        "batch_max = 4",
        "batch_wait_us_max = 0",
    ]
    return "\n".join(lines) + "\n"


def _python_design(variant: str, *more: str) -> Callable[[Workload, Place], Command]:
    def serve(workload: Workload, place: Place) -> Command:
        models = ["--detector", workload.detector, "--attributes", ",".join(workload.attributes)]
        group = ["--group", str(GROUP), "--slots", str(4 * GROUP)]
        layout = ["--detect", str(DETECT_PROCESSES), "--attribute", str(workload.attribute_processes)]
        arguments = [
            *(place.python("python-design"), "-m", "peers.python_design", "--variant", variant),
            *("--address", place.address, "--inbox", str(place.inbox), "--models", str(place.models)),
            *(group if workload.is_noop else models),
            *(*layout, "--crops-max", str(workload.crops_max), "--shm-name", f"{_name(place)}-slots", *more),
        ]
        return Command(arguments, {"PYTHONPATH": f"{ROOT / 'bench'}:{ROOT / 'clients/python'}"})

    return serve


def _triton(workload: Workload, place: Place) -> Command:
    serve = [place.python("triton"), str(ROOT / "bench/peers/triton/serve.py"), "--workload", workload.name]
    where = ["--port", str(place.port), "--folder", str(place.folder), "--models", str(place.models)]
    return Command([*serve, *where, "--shm-prefix", f"{_name(place)}-stub"])


def _mosec(by: str) -> Callable[[Workload, Place], Command]:
    def serve(workload: Workload, place: Place) -> Command:
        server = [place.python("mosec"), str(ROOT / "bench/peers/mosec/server.py")]
        told = {"stages": 1 if workload.name == "noop1" else 3}
        if workload.detector:
            told = {"detector": workload.detector, "attributes": workload.attributes, "crops_max": workload.crops_max}
            told |= {"processes": workload.attribute_processes, "raw": workload.raw}
        environment = {
            "BENCH_WORKLOAD": json.dumps(told),
            "BENCH_BY": by,
            "FRAMEPIPE_MODELS": str(place.models),
            "PYTHONPATH": str(ROOT / "bench"),
        }
        return Command([*server, "--address", "127.0.0.1", "--port", str(place.port)], environment)

    return serve


_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_AUTH_MODE": "disabled"}
"""Nothing is sent, no line of the replicas is swallowed, and no token is written into the user's folder."""


def _whole_frame(name: str, more: dict[str, str]) -> Callable[[Workload, Place], Command]:
    """Return how a server is started whose workers do a frame's whole work; `more` is of its environment."""

    def serve(workload: Workload, place: Place) -> Command:
        server = [place.python(name), str(ROOT / f"bench/peers/{name}/server.py"), "--models", str(place.models)]
        models = ["--detector", workload.detector, "--attributes", ",".join(workload.attributes)]
        raw = ["--raw", *map(str, workload.raw)] if workload.detector and workload.raw else []
        which = ["--crops-max", str(workload.crops_max), "--port", str(place.port), *raw]
        return Command([*server, *models, *which], {"PYTHONPATH": str(ROOT / "bench"), **more})

    return serve


def _name(place: Place) -> str:
    """Return what a peer is called in /dev/shm, where it can be told."""
    return f"bench-{place.port}"


def _described(workload: Workload) -> dict:
    return {"attributes": workload.attributes, "crops_max": workload.crops_max}


def _cascade(workload: Workload, place: Place) -> dict:
    return {"inbox": str(place.inbox)} | _described(workload)


def _http(route: str, by: str) -> Callable[[Workload, Place], dict]:
    return lambda workload, place: {"route": route, "by": by} | _described(workload)


def _triton_model(by: str) -> Callable[[Workload, Place], dict]:
    models = {"noop1": "noop_one", "noop": "noop_chain", "street": "street"}
    return lambda workload, place: {
        "model": models[workload.name],
        "by": by,
        "shm_prefix": f"{_name(place)}-client-",
    }


def _regions(place: Place) -> str:
    return rf"{_name(place)}-.+|{_SEMAPHORES}"


def _named_in_log(root: int, log: str) -> list[int]:
    """Find the processes of detect that the server named in its log, where they live."""
    alive = set(tree(root))
    return [pid for pid in map(int, re.findall(r": detect is (\d+)", log)) if pid in alive]


def _by_command(pattern: str) -> Callable[[int, str], list[int]]:
    def find(root: int, log: str) -> list[int]:
        found = []
        for pid in tree(root):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if re.search(pattern, command) and os.getpid() != pid:
                found.append(pid)
        return found

    return find


_SIMPLE = ("noop1", "noop", "street")

PEERS = {
    row.name: row
    for row in [
        Peer(
            "engine",
            "ONNX Runtime alone, 2 processes of 1 thread, nothing around it",
            "python-design",
            "engine",
            lambda workload, place: None,
            lambda workload: workload.name in ("street", "paper"),
        ),
        Peer(
            "framepipe",
            "framepipe",
            "python-design",
            "framepipe",
            _framepipe,
            lambda workload: workload.name != "noop1",
            _cascade,
            _by_command(r"/framepipe-detect\b"),
            lambda place: rf"framepipe-{_name(place)}(\.journal)?",
        ),
        Peer(
            "python-shm",
            "the paper's design in Python, slots of shared memory, descriptors in queues",
            "python-design",
            "framepipe",
            _python_design("shm"),
            lambda workload: workload.name != "noop1",
            _cascade,
            _named_in_log,
            _regions,
        ),
        Peer(
            "python-shm-half",
            "the same, JPEGs decoded to half their sides",
            "python-design",
            "framepipe",
            _python_design("shm", "--half"),
            lambda workload: workload.name == "street",
            _cascade,
            _named_in_log,
            _regions,
        ),
        Peer(
            "python-queues",
            "the paper's design in Python, arrays in queues",
            "python-design",
            "framepipe",
            _python_design("queues"),
            lambda workload: workload.name != "noop1",
            _cascade,
            _named_in_log,
        ),
        Peer(
            "triton-shm",
            "Triton 2.51, Python backend, images in system shared memory",
            "triton",
            "triton",
            _triton,
            lambda workload: workload.name in _SIMPLE,
            _triton_model("shm"),
            _by_command(r"triton_python_backend_stub .*(street|noop)_detect"),
            _regions,
        ),
        Peer(
            "triton-inline",
            "Triton 2.51, Python backend, images in requests",
            "triton",
            "triton",
            _triton,
            lambda workload: workload.name in _SIMPLE,
            _triton_model("inline"),
            _by_command(r"triton_python_backend_stub .*(street|noop)_detect"),
            _regions,
        ),
        Peer(
            "mosec",
            "mosec, images in requests",
            "mosec",
            "http",
            _mosec("inline"),
            lambda workload: True,
            _http("/inference", "inline"),
            _named_in_log,
        ),
        Peer(
            "mosec-path",
            "mosec, images in tmpfs, read by the first stage",
            "mosec",
            "http",
            _mosec("path"),
            lambda workload: True,
            _http("/inference", "path"),
            _named_in_log,
        ),
        Peer(
            "litserve",
            "LitServe, images in tmpfs, all work in one stage",
            "litserve",
            "http",
            _whole_frame("litserve", {}),
            lambda workload: workload.name != "noop",
            _http("/predict", "path"),
            _named_in_log,
        ),
        Peer(
            "rayserve",
            "Ray Serve, images in tmpfs, all work in one deployment of 2 replicas",
            "rayserve",
            "http",
            _whole_frame("rayserve", _RAY),
            lambda workload: workload.name != "noop",
            _http("/predict", "path"),
            _named_in_log,
        ),
    ]
}
