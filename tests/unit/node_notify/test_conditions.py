"""Rules over typed results: each condition, both ways, with its sentence."""

from __future__ import annotations

from typing import Any

import pytest

from node.notify.conditions import judge, unwanted_profiles
from node.notify.facts import ResultFacts, facts_of_failure, facts_of_result
from node.settings import NotifySection
from tests.notification_scene import HEMORRHAGE, summary


def _facts(**changes: Any) -> ResultFacts:
    values: dict[str, Any] = {"rule": "infarct", "model": "infarct", "run": 1, "priority": 0, "outcome": "found"}
    content = summary(**changes.pop("summary", {}))
    return facts_of_result(**{**values, **changes}, summary=content)


def _rule(**when: Any) -> NotifySection:
    return NotifySection.model_validate({"name": "r", "channels": ["c"], "when": when})


_PROBABLE = {"findings": [{"concept": HEMORRHAGE, "probability": 0.83, "present": True, "side": "right"}]}


@pytest.mark.parametrize(
    ("when", "facts", "holds", "sentence"),
    [
        ({"volume_ml_over": 1.0, "priority": ["stat"]}, {}, True, "volume_ml_over: 12.50 mL, asked for 1 mL"),
        (
            {"volume_ml_over": 1.0, "priority": ["stat"]},
            {"priority": 2},
            False,
            "priority: 'routine' does not match 'stat'",
        ),
        ({"volume_ml_over": 12.5}, {}, False, "volume_ml_over: 12.50 mL, asked for 12.5 mL"),
        ({"volume_ml_under": 1.0}, {"summary": {"total_ml": None}}, False, "nothing was measured"),
        ({"volume_ml_under": 20.0}, {}, True, "volume_ml_under"),
        ({"outcome": ["found"]}, {"outcome": "nothing_found"}, False, "outcome: 'nothing_found' does not match"),
        ({"side": ["left"]}, {}, True, "side: 'left' matches"),
        ({"side": ["right"]}, {}, False, "side: 'left' does not match 'right'"),
        ({"side": ["right"]}, {"summary": _PROBABLE}, True, "side: 'left' and 'right' matches"),
        ({"finding": ["*hemorrhage*"]}, {}, False, "Intracranial hemorrhage 0.25; asked for"),
        ({"finding": ["*hemorrhage*"]}, {"summary": _PROBABLE}, True, "present"),
        ({"finding": ["1386000"], "probability_over": 0.8}, {"summary": _PROBABLE}, True, "over 0.8"),
        ({"finding": ["1386000"], "probability_over": 0.9}, {"summary": _PROBABLE}, False, "over 0.9"),
        ({"probability_over": 0.2}, {}, True, "asked for any, over 0.2"),
        ({"finding": ["cerebral infarction"]}, {}, True, "was found"),
        ({"finding": ["cerebral infarction"]}, {"outcome": "nothing_found"}, False, "no such finding"),
        ({"rule": ["inf*"], "model": ["other"]}, {}, False, "model: 'infarct' does not match 'other'"),
        ({"refusal": ["SER-*"]}, {}, False, "refusal: nothing does not match"),
    ],
)
def test_condition(when: dict[str, Any], facts: dict[str, Any], holds: bool, sentence: str) -> None:
    (verdict,) = judge([_rule(**when)], _facts(**facts))
    assert verdict.matched is holds
    assert any(sentence in each for each in verdict.explanation), verdict.explanation


def test_failed_run_is_judged_by_its_code() -> None:
    facts = facts_of_failure(rule="r", model="m", run=1, priority=0, code="JOB-001", message="took too long")
    verdicts = judge([_rule(refusal=["JOB-*"]), _rule(refusal=["SER-*"]), _rule(outcome=["not_assessed"])], facts)
    assert [verdict.matched for verdict in verdicts] == [True, False, True]


def test_objects_made_in_vain_are_not_kept() -> None:
    rules = [
        _rule(volume_ml_over=1.0).model_copy(update={"name": "big"}),
        _rule(refusal=["*"]).model_copy(update={"name": "none"}),
    ]
    further = {"big": {"wide": ["a"]}, "none": {"research": ["b"], "pacs": ["c"]}}
    unwanted = unwanted_profiles(rules, _facts(), destinations={"pacs": ["d"]}, further=further)
    assert unwanted == {"research"}
