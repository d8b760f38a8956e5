"""Rules against headers, with an explanation for each condition."""

from __future__ import annotations

from typing import Any

import pytest

from node.patients import PatientIdentity, contradiction
from node.routing import InstanceFacts, match
from node.settings import RuleMatch, RuleSection

HEAD = {
    "body_part": "HEAD",
    "study_description": "MR Brain stroke protocol",
    "protocol_name": "ep2d_diff",
    "procedure_codes": ["MRHEAD", "X1"],
    "manufacturer": "SIEMENS",
    "station_name": "MR3",
}
STUDY = [
    InstanceFacts("MR", "MODALITY1", "AINODE", {**HEAD, "diffusion": True}),
    InstanceFacts("MR", "MODALITY1", "AINODE", {**HEAD, "diffusion": False}),
    InstanceFacts("PR", "MODALITY1", "AINODE", {}),
]


@pytest.mark.parametrize(
    ("conditions", "expected", "words"),
    [
        ({}, True, "minimum_instances: 3"),
        ({"modality": ["MR"]}, True, "modality: 'MR' matches 'MR'"),
        ({"modality": ["CT", "mr"]}, True, "'CT' or 'mr'"),
        ({"modality": ["CT"]}, False, "modality: 'MR', 'PR' does not match 'CT'"),
        ({"study_description": ["*stroke*"]}, True, "matches '*stroke*'"),
        ({"study_description": ["stroke"]}, False, "does not match"),
        ({"procedure_code": ["X?"]}, True, "'X1' matches"),
        ({"calling_ae_title": ["MODALITY2"]}, False, "calling_ae_title"),
        ({"called_ae_title": ["AINODE"]}, True, "called_ae_title"),
        ({"station_name": ["MR*"], "manufacturer": ["GE*"]}, False, "manufacturer: 'SIEMENS' does not match 'GE*'"),
        ({"body_part": ["KNEE"]}, False, "body_part: 'HEAD'"),
        ({"diffusion": True}, True, "1 of 3 images are diffusion images"),
        ({"diffusion": False}, False, "asked for none"),
        ({"modality": ["MR"], "minimum_instances": 3}, False, "2 image(s) or frame(s), asked for 3"),
    ],
)
def test_conditions(conditions: dict[str, Any], expected: bool, words: str) -> None:
    rule = RuleSection(name="r", model="m", match=RuleMatch(**conditions))
    (verdict,) = match([rule], STUDY)
    assert verdict.matched is expected
    assert any(words in sentence for sentence in verdict.explanation), verdict.explanation


def test_absent_attribute_is_said_so() -> None:
    rule = RuleSection(name="r", model="m", match=RuleMatch(body_part=["HEAD"]))
    (verdict,) = match([rule], [InstanceFacts("MR")])
    assert not verdict.matched
    assert "absent from every image" in verdict.explanation[0]


def test_frames_of_an_enhanced_object_count() -> None:
    rule = RuleSection(name="r", model="m", match=RuleMatch(minimum_instances=30))
    assert match([rule], [InstanceFacts("MR", headers={"number_of_frames": 39})])[0].matched


def test_no_instances_match_nothing() -> None:
    assert not match([RuleSection(name="r", model="m")], [])[0].matched


@pytest.mark.parametrize(
    ("identities", "expected"),
    [
        ([("1", "", "A", ""), ("1", "", "A", "")], None),
        ([("1", "", "A", ""), ("2", "", "A", "")], "2 different Patient IDs"),
        ([("1", "", "A", ""), ("", "", "A", "")], None),
        ([("1", "X", "A", ""), ("1", "Y", "A", "")], "issuers"),
        ([("1", "X", "A", ""), ("1", "", "A", "")], None),
        ([("1", "", "A", "19500101"), ("1", "", "A", "19600101")], "birth dates"),
        ([("1", "", "YAMADA^TARO", ""), ("1", "", "山田^太郎", "")], None),
        ([("", "", "A^B", ""), ("", "", "a^b^^", "")], None),
        ([("", "", "A^B", ""), ("", "", "C^D", "")], "patient names"),
        ([(" 1", "", "A", ""), ("1 ", "", "A", "")], None),
    ],
)
def test_two_patients(identities: list[tuple[str, str, str, str]], expected: str | None) -> None:
    found = contradiction([PatientIdentity(*each) for each in identities])
    assert (found is None) == (expected is None)
    if expected:
        assert expected in str(found)
