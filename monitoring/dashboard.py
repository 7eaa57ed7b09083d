#!/usr/bin/env python3
"""Makes dashboard.json, which Grafana imports, of the table in panels.py.

Usage: build/venv-deploy/bin/python monitoring/dashboard.py [--check]

With --check nothing is written: exit status 1 where dashboard.json is not what the table makes.
"""

import argparse
import itertools
import pathlib
import sys

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, StackingMode, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableRefresh
from panels import ROWS, Panel

FILE = pathlib.Path(__file__).with_name("dashboard.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
CHOSEN = 'job=~"$job",instance=~"$instance"'
"""What $at stands for."""
INTERVAL = "$__rate_interval"
"""What $each stands for."""
WIDTH, HEIGHT = 24, 7


def panel(row: Panel, number: int, beside: int) -> timeseries.Panel:
    """Build one graph, of so many side by side."""
    made = (
        timeseries.Panel()
        .id(number)
        .title(row.title)
        .description(row.about)
        .datasource(SOURCE)
        .unit(row.unit)
        .span(WIDTH // beside)
        .height(HEIGHT)
        .fill_opacity(20 if row.is_stacked else 0)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if row.is_stacked:
        made.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if "min" in row.options:
        made.min(row.options["min"])
    if "max" in row.options:
        made.max(row.options["max"])
    for place, (legend, line) in enumerate(row.lines.items()):
        expression = line.replace("$at", CHOSEN).replace("$each", INTERVAL)
        query = prometheus.Dataquery().expr(expression).legend_format(legend).range()
        made.with_target(query.ref_id(chr(ord("A") + place)))
    return made


def variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Build a choice among a label's values."""
    made = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query).multi(True).include_all(True)
    return made.all_value(".*").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def whole() -> dashboard.Dashboard:
    """Build all of it."""
    made = (
        dashboard.Dashboard("framepipe")
        .uid("framepipe")
        .description("Pipelines of framepipe: frames, times, stages, memory, what is kept, deaths.")
        .tags(["framepipe"])
        .time("now-1h", "now")
        .refresh("15s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(variable("job", "Job", "label_values(framepipe_ready, job)"))
        .with_variable(variable("instance", "Pipeline", 'label_values(framepipe_ready{job=~"$job"}, instance)'))
    )
    numbers = itertools.count(1)
    for title, panels in ROWS.items():
        made.with_row(dashboard.Row(title).id(next(numbers)))
        for row in panels:
            made.with_panel(panel(row, next(numbers), 3 if len(panels) % 3 == 0 else 4))
    return made


def main() -> int:
    """Write it, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    arguments = parser.parse_args()
    text = JSONEncoder(sort_keys=True, indent=2).encode(whole().build()) + "\n"
    if not arguments.check:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        print(f"{FILE} is not what monitoring/panels.py makes: run monitoring/dashboard.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
