"""Orders against images, earlier studies against orders, JJ1017 codes."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydicom.dataset import Dataset

from node import jj1017
from node.dicom.worklist import read_orders
from node.intentions import intended, procedure_words
from node.orders import Code, Order, StudyIdentity, most_urgent, verify
from node.patients import PatientIdentity
from node.relevant_priors import EarlierStudy, relevant
from node.settings import OrderMatch, PriorsSection, RuleMatch, RuleSection


def order(**changes: Any) -> Order:
    values = {"study_uid": "1.2", "accession_number": "A1", "patient_id": "P1", "modality": "MR", **changes}
    return Order(**values)


@pytest.mark.parametrize(
    ("ordered", "study", "accession", "patient", "accepted", "words"),
    [
        ({}, "1.2", "A1", "P1", True, "Study Instance UID and patient agree"),
        ({}, "1.2", "", "P1", True, "the images carry no accession number"),
        ({}, "1.9", "A1", "P1", True, "the modality gave the study another UID"),
        ({"study_uid": ""}, "1.9", "A1", "P1", True, "accession number and patient agree"),
        ({}, "1.2", "A2", "P1", False, "another accession number"),
        ({}, "1.2", "A1", "TEMP", False, "another patient"),
        ({}, "1.2", "A1", "", False, "another patient"),
        ({}, "1.9", "A2", "P1", False, "another accession number and neither"),
        ({"accession_number": ""}, "1.9", "", "P1", False, "neither"),
        ({"issuer_of_patient_id": "H1"}, "1.2", "A1", "P1", True, "agree"),
    ],
)
def test_an_order_is_accepted_or_withheld(
    ordered: dict[str, str], study: str, accession: str, patient: str, accepted: bool, words: str
) -> None:
    identity = StudyIdentity(study, frozenset([accession]), (PatientIdentity(patient),))
    verdict = verify(order(**ordered), identity)
    assert verdict.accepted is accepted
    assert words in verdict.words
    assert "P1" not in verdict.words and "TEMP" not in verdict.words


def test_an_order_survives_json() -> None:
    whole = order(procedure_codes=(Code("7000000100000000", "JJ1017-16M", "MR head"),), starts_at=1.5, priority="STAT")
    assert Order.from_dict({**whole.to_dict(), "unknown": 1}) == whole
    assert most_urgent([order(), whole]) == "STAT"
    assert most_urgent([order(priority="routine")]) == ""


@pytest.mark.parametrize(
    ("value", "scheme", "kind", "part", "side", "label"),
    [
        ("7000000100000000", "JJ1017-16M", "7", "100", "0", "MR head"),
        ("60001002000000000000000000000000", "JJ1017-32", "6", "200", "0", "CT 0001 chest"),
        ("1000000200R10200", "JJ1017-16M/HOSP", "1", "200", "R", "plain X-ray chest right"),
        ("6000000P01000000", "jj1017-16m", "6", "P01", "0", "CT P01"),
    ],
)
def test_jj1017_is_taken_apart(value: str, scheme: str, kind: str, part: str, side: str, label: str) -> None:
    found = jj1017.decode(value, scheme)
    assert found is not None
    assert (found.kind, found.part, found.side) == (kind, part, side)
    assert found.label() == label


def test_jj1017_second_half_and_what_is_none() -> None:
    second = jj1017.decode("0081450000000000", "JJ1017-16S")
    assert second is not None
    assert (second.instruction, second.nuclide, second.kind) == ("81", "45", "")
    whole = jj1017.decode("1000000200010300" + "2800000000000000", "JJ1017-32")
    assert whole is not None
    assert (whole.position, whole.direction, whole.detail_position, whole.modality) == ("1", "03", "28", "DX")
    assert whole.label(language="ja", parts={"200": "胸部"}) == "X線単純撮影 胸部"
    for value, scheme in (("7000", "JJ1017-16M"), ("7000000100000000", "LN"), ("I000000100000000", "JJ1017-16M")):
        assert jj1017.decode(value, scheme) is None


def test_a_worklist_entry_that_breaks_every_rule_costs_itself() -> None:
    good, bad = Dataset(), Dataset()
    good.AccessionNumber = "A1"
    good.RequestedProcedurePriority = "stat"
    bad.add_new(0x00400100, "LO", "no sequence")
    (found,) = read_orders([bad, good])
    assert (found.accession_number, found.priority, found.starts_at) == ("A1", "STAT", None)


TODAY = date(2026, 6, 30)
HEAD = order(requested_procedure_description="MR Brain stroke")


def earlier(uid: str = "9", **changes: Any) -> EarlierStudy:
    values = {"patient_id": "P1", "study_date": "20260601", "modalities": ("MR",), "description": "Brain MR"}
    return EarlierStudy(uid, **{**values, **changes})


@pytest.mark.parametrize(
    ("study", "section", "chosen"),
    [
        (earlier(), {}, True),
        (earlier(patient_id="P2"), {}, False),
        (earlier(uid="1.2"), {}, False),
        (earlier(description="Knee left"), {}, False),
        (earlier(description="Knee left"), {"same_region": False}, True),
        # What says nothing about its region is not left out.
        (earlier(description=""), {}, True),
        (earlier(description="頭部MRI"), {}, True),
        (earlier(modalities=("CT",)), {}, False),
        (earlier(modalities=("CT",)), {"same_modality": False}, True),
        (earlier(modalities=("CT", "SR")), {"modalities": ["CT"]}, True),
        (earlier(study_date="20200101"), {}, False),
        (earlier(study_date="20260701"), {}, False),
        (earlier(study_date="nonsense"), {}, False),
        (earlier(instances=5000), {}, False),
    ],
)
def test_relevance_of_an_earlier_study(study: EarlierStudy, section: dict[str, Any], chosen: bool) -> None:
    assert bool(relevant(HEAD, [study], PriorsSection(**section), TODAY)) is chosen


def test_the_most_relevant_come_first_and_not_too_many() -> None:
    studies = [
        earlier("a", description=""),
        earlier("b", study_date="20260101"),
        earlier("c", study_date="20260501"),
    ]
    found = relevant(HEAD, studies, PriorsSection(maximum_studies=2), TODAY)
    assert [each.study.study_uid for each in found] == ["c", "b"]
    assert found[0].words == "same region, same modality, 60 day(s) old"


def test_intentions_name_rules_that_nothing_speaks_against() -> None:
    rules = [
        RuleSection(name="head", model="m", match=RuleMatch(modality=["MR"], order=OrderMatch(jj1017_part=["100"]))),
        RuleSection(name="ct", model="m", match=RuleMatch(modality=["CT"])),
        RuleSection(name="any", model="m", priority="off-peak", shadow=True),
    ]
    coded = order(procedure_codes=(Code("7000000100000000", "JJ1017-16M", ""),), priority="HIGH")
    assert intended(coded, rules) == ["head (urgent)", "any (urgent, shadow)"]
    assert intended(order(), rules) == ["any (off-peak, shadow)"]
    assert procedure_words(coded, language="ja", parts={"100": "頭部"}) == "MRI 頭部"
