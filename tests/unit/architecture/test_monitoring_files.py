"""Shipped alert rules and dashboard: every metric is one that the page can show, every link leads somewhere."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from node.commands.doctor import PAGES, examinations
from node.monitor.condition import Alarm
from tests.peers import require

ROOT = Path(__file__).resolve().parents[3]
ALERTS = ROOT / "monitoring" / "alerts.yml"
DASHBOARD = ROOT / "monitoring" / "grafana-dashboard.json"
_METRIC = re.compile(r"\bainode_[a-z_]+")


def rules() -> list[dict[str, object]]:
    """Alert rules."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def _sections() -> set[str]:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    return set(re.findall(r"^## (\S+)$", page, re.M))


def metrics_named() -> set[str]:
    """Metrics that alert rules and dashboard name."""
    board = json.loads(DASHBOARD.read_text())
    expressions = [str(rule["expr"]) for rule in rules()]
    expressions += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return {name for expression in expressions for name in _METRIC.findall(expression)}


def test_every_metric_is_made_somewhere() -> None:
    """By name here; tests/integration/test_metrics.py looks at the page itself."""
    source = "".join(path.read_text() for path in (ROOT / "node" / "metrics").glob("*.py"))
    made = set(re.findall(r'"(ainode_[a-z_]+)"', source))
    names = metrics_named()
    assert len(names) > 25
    assert not {name for name in names if re.sub(r"_(total|bucket)$", "", name) not in made and name not in made}


def test_every_alert_leads_to_its_section() -> None:
    sections = _sections()
    for rule in rules():
        annotations = rule["annotations"]
        assert isinstance(annotations, dict) and annotations["summary"]
        page, _, section = str(annotations["runbook_url"]).partition("#")
        assert page == "docs/alerts.md" and (section in sections or rule["alert"] == "AinodeAlarm"), rule
    assert {str(alarm) for alarm in Alarm} <= sections
    assert set(PAGES) == set(examinations()) and set(PAGES.values()) <= sections


def test_every_section_says_what_to_do() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    for section in page.split("\n## ")[1:]:
        for part in ("**Means.**", "**The radiologist sees**", "**Do.**"):
            assert part in section, section.splitlines()[0]


def test_dashboard_is_whole() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 15
    assert {each["name"] for each in board["templating"]["list"]} == {"datasource", "instance"}


@pytest.mark.peer
def test_promtool_takes_the_rules() -> None:
    done = subprocess.run(
        [require("promtool"), "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
