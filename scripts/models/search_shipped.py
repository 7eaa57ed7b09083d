"""Searches how a shipped model becomes INT8, on the data that the project's gate uses: what shipped.py then says.

    search_shipped.py NAME...

Prints the row's settings, and writes build/onnx/try/NAME/report.json for int8_report.py.
"""

import argparse
import json
from dataclasses import replace

from calibration import calibration_tensors, gate_tensors, read_manifest
from gate import INPUTS_MIN, Twin
from paths import BUILD
from search import Search, settings_of
from shipped import SHIPPED, Int8


def search(name: str) -> None:
    """Search one model's settings."""
    manifest, graph = read_manifest(name), SHIPPED[name].float_graph()
    shipped = SHIPPED[name].int8 or Int8()
    start = replace(Int8(), inputs_max=shipped.inputs_max, random=shipped.random)
    folder = BUILD / "onnx" / "try" / name
    folder.mkdir(parents=True, exist_ok=True)
    tensors = gate_tensors(manifest, INPUTS_MIN, start.inputs_max)
    twin = Twin(manifest, graph, tensors, start.random)
    calibration = Twin(manifest, graph, calibration_tensors(manifest, start.inputs_max), start.random)
    found = Search(twin, calibration, start, "cpu", folder, lambda text: print(text, flush=True)).best()
    (folder / "report.json").write_text(json.dumps({"model": name} | found.report(), indent=1) + "\n")
    print(f"{name}: {settings_of(found.int8)}\n{found.gate.text()}", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", choices=list(SHIPPED), help="models of shipped.py")
    for name in parser.parse_args().names:
        search(name)


if __name__ == "__main__":
    main()
