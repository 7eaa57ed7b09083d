"""Runs Triton with the models of this folder: tritonserver out of the PyPI package nvidia-pytriton, without CUDA.

Its Python backend starts a stub for each model instance: the one of this Python's version is put beside the backend. A
stub does not look at PYTHONPATH: it finds the packages of the environment that runs this program, and what lies beside
the backend, as `cascade` does.
"""

import argparse
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytriton

HERE = Path(__file__).resolve().parent
BENCH = HERE.parents[1]
STARTUP_MODELS = {
    "noop1": ["noop_one"],
    "noop": ["noop_chain", "noop_preprocess", "noop_detect", "noop_postprocess"],
    "street": ["street", "street_preprocess", "street_detect", "street_postprocess"],
}


def main() -> None:
    """Put the backend together and become tritonserver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=STARTUP_MODELS, required=True)
    parser.add_argument("--port", type=int, required=True, help="of gRPC")
    parser.add_argument("--folder", type=Path, required=True, help="where the backend is put together")
    parser.add_argument("--models", type=Path, required=True, help="framepipe's model repository")
    parser.add_argument("--shm-prefix", required=True, help="how names of the stubs' regions in /dev/shm begin")
    arguments = parser.parse_args()
    package = Path(pytriton.__file__).parent / "tritonserver"
    backend = arguments.folder.resolve() / "backends" / "python"
    shutil.rmtree(backend, ignore_errors=True)
    backend.mkdir(parents=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in [
        *(package / "backends/python").glob("*.*"),
        package / "python_backend_stubs" / version / "triton_python_backend_stub",
        BENCH / "cascade",
    ]:
        (backend / path.name).symlink_to(path)
    repository = arguments.folder.resolve() / "models"
    shutil.copytree(HERE / "models", repository, dirs_exist_ok=True)
    for model in repository.iterdir():
        (model / "1").mkdir(exist_ok=True)  # an ensemble's version is an empty folder, which no repository of git has
    environment = os.environ | {
        "FRAMEPIPE_MODELS": str(arguments.models.resolve()),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR"),
    }
    command = [
        str(package / "bin/tritonserver"),
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in STARTUP_MODELS[arguments.workload]),
        f"--backend-directory={backend.parent}",
        f"--backend-config=python,shm-region-prefix-name={arguments.shm_prefix}",
        f"--grpc-port={arguments.port}",
        "--grpc-address=127.0.0.1",
        "--allow-http=false",
        "--allow-metrics=false",
        "--disable-auto-complete-config",
        "--log-verbose=0",
    ]
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
