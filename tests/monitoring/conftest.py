"""What monitoring/ says, the table of metrics, and promtool."""

import json
import pathlib
import re
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
DOCUMENTATION = (ROOT / "docs" / "monitoring.md").read_text()
TARGET_LABELS = {"job", "instance"}
"""What Prometheus adds."""


def metrics() -> dict[str, set[str]]:
    """Read the table of docs/monitoring.md, which the gateway's tests compare with its own: series and their labels."""
    known = {"up": TARGET_LABELS}
    for line in DOCUMENTATION.splitlines():
        if line.startswith(("| `framepipe_", "| `process_")):
            name, kind, labels = [cell.strip().strip("`") for cell in line.strip("|").split("|")][:3]
            own = set(re.findall(r"\w+", labels)) | TARGET_LABELS
            series = [f"{name}_bucket", f"{name}_sum", f"{name}_count"] if kind == "histogram" else [name]
            known |= {one: own | {"le"} if one.endswith("_bucket") else own for one in series}
    assert len(known) > 50, "docs/monitoring.md has its table"
    return known


def of_dashboard() -> dict[str, str]:
    """Name the expression of each line of each panel, with the dashboard's variables filled in."""
    found = {}
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$job", ".*").replace("$instance", ".*")
            found[f"{panel['title']}: {target['legendFormat']}"] = expression.replace("$__rate_interval", "1m")
    assert found
    return found


def rules() -> list[dict]:
    """Read the rules."""
    groups = yaml.safe_load((MONITORING / "framepipe.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def of_rules() -> dict[str, str]:
    """Name the expression of each rule."""
    return {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules()}


def promtool(*arguments: object) -> str:
    """Run promtool, which must be content."""
    ran = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, cwd=MONITORING
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="session")
def known() -> dict[str, set[str]]:
    """Give the table of metrics, and what the rules record."""
    recorded = {rule["record"]: TARGET_LABELS for rule in rules() if "record" in rule}
    return metrics() | recorded
