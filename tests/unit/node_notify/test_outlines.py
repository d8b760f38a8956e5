"""Structures outlined on a radiograph have no volume: nothing is said of their size or side."""

from __future__ import annotations

from node.notify.facts import facts_of_result
from node.notify.hl7_message import _lines
from node.notify.wording import sentences
from tests.notification_scene import summary


def test_outlines_are_no_measured_findings() -> None:
    lung = {"label": "Left lung", "volume_ml": None, "laterality": "left"}
    content = summary(None, regions=[lung, {**lung, "label": "Right lung", "laterality": "right"}], findings=[])
    facts = facts_of_result(rule="r", model="cxas", run=1, priority=2, outcome="found", summary=content)
    assert (facts.sides, len(facts.regions)) == ((), 2)
    told = {"event": "alert", "priority": "routine", "result": facts.model_dump(mode="json")}
    said = sentences(told)
    assert not any("mL" in line or "left" in line for line in said)
    lines = [repr(line) for line in _lines(told, facts)]
    assert lines and not any("milliliter" in line or "1.1" in line for line in lines)
