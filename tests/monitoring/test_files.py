"""Rules and dashboard: PromQL that parses, of metrics and labels that there are, and words for who is woken."""

import re
import shutil

import pytest
import yaml
from conftest import DOCUMENTATION, MONITORING, ROOT, of_dashboard, of_rules, promtool, rules

EXPRESSIONS = {**of_dashboard(), **of_rules()}
ALERTS = [rule for rule in rules() if "alert" in rule]


def test_promtool_takes_the_rules_and_the_configuration(tmp_path):
    """Check what Prometheus reads."""
    promtool("check", "rules", "--lint-fatal", "framepipe.rules.yml")
    promtool("check", "config", "prometheus.yml")
    # As compose.yaml mounts it: beside the rules.
    shutil.copy(MONITORING / "framepipe.rules.yml", tmp_path)
    promtool("check", "config", shutil.copy(MONITORING / "compose" / "prometheus.yml", tmp_path))


def expected_to_fire() -> set[str]:
    """Name the alerts that a scenario of framepipe.test.yml wants to see."""
    scenarios = yaml.safe_load((MONITORING / "framepipe.test.yml").read_text())["tests"]
    asked = [case for scenario in scenarios for case in scenario.get("alert_rule_test", []) if case["exp_alerts"]]
    cases = [case for scenario in scenarios for case in scenario.get("promql_expr_test", [])]
    shown = [sample["labels"] for case in cases for sample in case["exp_samples"] if sample["value"] == 1]
    firing = [labels for labels in shown if labels.startswith("ALERTS{") and 'alertstate="firing"' in labels]
    named = [re.search(r'[{,]alertname="(\w+)"', labels) for labels in firing]
    return {case["alertname"] for case in asked} | {match[1] for match in named if match}


def test_each_alert_fires_where_it_must_and_nowhere_else():
    """Run the rules' own tests, and ask whether they name each alert."""
    promtool("test", "rules", "framepipe.test.yml")
    assert {rule["alert"] for rule in ALERTS} - expected_to_fire() == set()


def test_every_expression_of_the_dashboard_parses(tmp_path):
    """Let promtool take them for rules."""
    recording = [{"record": f"line_{number}", "expr": text} for number, text in enumerate(of_dashboard().values())]
    wrapped = tmp_path / "dashboard.rules.yml"
    wrapped.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recording}]}))
    assert f"{len(recording)} rules found" in promtool("check", "rules", wrapped)


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_every_metric_and_label_of_an_expression_exists(title, known):
    """Compare with the table of metrics."""
    expression = re.sub(r'"[^"]*"', '""', EXPRESSIONS[title])
    names = re.findall(r"(?<![\w:])(?:framepipe[\w:]+|process_start_time_seconds|up)\b", expression)
    assert names, expression
    assert [name for name in names if name not in known] == []
    for name, matchers in re.findall(r"([\w:]+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= known[name], name
    grouped = re.findall(r"(?:by|without|on)\s*\(([^)]*)\)", expression)
    used = {label for labels in grouped for label in re.findall(r"\w+", labels)}
    assert used <= set().union(*(known[name] for name in names)), expression


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_tells_who_is_woken_what_is_the_matter_and_what_to_do(alert):
    """Look at labels, words and the runbook."""
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/monitoring.md#{alert['alert'].lower()}"
    _, found, section = DOCUMENTATION.partition(f"\n### {alert['alert']}\n")
    assert found, f"docs/monitoring.md has no heading {alert['alert']}"
    words = section.split("\n#", 1)[0].split()
    assert len(words) > 15, "it says what to do"


def test_no_runbook_is_of_an_alert_that_is_gone():
    """Compare headings with rules."""
    names = {alert["alert"] for alert in ALERTS}
    assert set(re.findall(r"^### (Framepipe\w+)$", DOCUMENTATION, re.MULTILINE)) == names


def test_what_compose_mounts_is_there_and_what_it_takes_from_a_registry_has_a_version():
    """Read compose.yaml."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    files = [path for path in mounted if path.startswith("./")]
    assert len(files) == 5
    assert [path for path in files if not (ROOT / path).is_file()] == []
    foreign = [service["image"] for service in services.values() if "build" not in service]
    assert [image for image in foreign if not re.search(r":v?\d+\.\d+\.\d+$", image)] == []
