"""Puts the figures of a benchmark together into one flat JSON object.

Usage: bench_figures.py FIGURES.json [NAME=NUMBER ...]
"""

import datetime
import json
import pathlib
import sys

from demo_figures import commit, cpu_model


def main() -> None:
    """Print the figures of the file, those of the command line, and where and when they were measured."""
    figures = json.loads(pathlib.Path(sys.argv[1]).read_text())
    for argument in sys.argv[2:]:
        name, _, number = argument.partition("=")
        figures[name] = float(number)
    figures |= {"machine": cpu_model(), "date": datetime.date.today().isoformat(), "commit": commit()}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
