"""One status for several analyses: what it says of each, and what the check before sending finds wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_sr.check import check
from dicom_sr.checks.subject import concept, walk
from dicom_sr.combined_status import Account, description, render_combined
from dicom_sr.errors import ObjectInvalid
from dicom_sr.rendering import RenderContext, RenderedObject
from dicom_sr.source_header import normalise
from models.results import ModelReference, Outcome, StudyResult
from tests.generators.results import not_assessed, nothing_found
from tests.unit.dicom_sr_objects.cases import Case, context, phantom_case

OTHER = ModelReference("other", "2.1", "Other", "Maker", "ab" * 32)
LANGUAGES = ("en", "ja")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return phantom_case(tmp_path_factory.mktemp("combined"))


def found(case: Case) -> Account:
    return Account(replace(case.result, segmentation=None, drafts=(), title="Bleeding", model=OTHER))


def negative() -> Account:
    return Account(nothing_found())


def refused() -> Account:
    return Account(not_assessed())


def still_open() -> Account:
    return Account(replace(not_assessed(), drafts=(), refusal=None, title="Fracture"), is_open=True)


def rendered(
    case: Case, accounts: Sequence[Account], languages: Sequence[str] = LANGUAGES, **changes: Any
) -> tuple[list[RenderedObject], RenderContext]:
    wanted = context(**{"objects": ("seg", "status"), **changes})
    return render_combined(accounts, languages, normalise(case.study, None), wanted), wanted


def judged(case: Case, accounts: Sequence[Account], made: list[RenderedObject], wanted: RenderContext) -> None:
    result: StudyResult = accounts[0].result
    check(made, case.study, result, None, profile=wanted.profile, accounts=accounts)


def texts(dataset: Dataset) -> list[str]:
    return [
        str(entry.TextValue)
        for entry in walk(dataset)
        if entry.get("ValueType") == "TEXT" and len(entry.TextValue) > 80
    ]


def code(dataset: Dataset) -> list[str]:
    coded = [each for each in walk(dataset) if each.get("ValueType") == "CODE" and concept(each) == "121071"]
    return [concept(each, "ConceptCodeSequence") for each in coded]


def test_each_is_said_and_what_was_found_is_said_first(case: Case) -> None:
    accounts = [still_open(), negative(), refused(), found(case)]
    made, wanted = rendered(case, accounts)
    judged(case, accounts, made, wanted)
    assert [each.role for each in made] == ["status-combined", "status-combined-ja"]
    english, japanese = (texts(each.dataset) for each in made)
    for text in english:
        assert "1 found something, 1 not assessed, 1 found nothing, 1 not ended yet." in text
        order = [text.index(words) for words in ("FOUND SOMETHING", ": not assessed", ": nothing found", "not ended")]
        assert order[0] == min(order[:1] + order[1:3])
    assert "SUI-002" in english[0] and "Bleeding: FOUND SOMETHING" in english[1]
    assert "所見あり1件、評価なし1件、検出なし1件、未終了1件" in japanese[0] and "信号雑音比" in japanese[0]
    dataset = made[0].dataset
    assert dataset.SeriesDescription == "AI status: 1 found, 1 not assessed, 1 nothing found, 1 open"
    digests = {str(each.get("DeviceSerialNumber", "")) for each in dataset.ContributingEquipmentSequence}
    assert {each.result.model.digest[:64] for each in accounts} <= digests


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("nn", "111241"),
        ("fn", "111242"),
        ("nr", "111243"),
        ("no", "111243"),
        ("fr", "111244"),
        ("fo", "111244"),
        ("rr", "111245"),
        ("ro", "111245"),
    ],
)
def test_the_code_says_what_all_came_to(case: Case, kinds: str, expected: str) -> None:
    making: dict[str, Callable[[], Account]] = {"n": negative, "r": refused, "o": still_open, "f": lambda: found(case)}
    accounts = [making[kind]() for kind in kinds]
    made, wanted = rendered(case, accounts, ["en"])
    judged(case, accounts, made, wanted)
    assert code(made[0].dataset) == [expected]


@pytest.mark.parametrize("changes", [{"text_dialect": "flat"}, {"objects": ("seg", "summary", "status")}])
def test_other_forms(case: Case, changes: dict[str, Any]) -> None:
    accounts = [found(case), refused()]
    made, wanted = rendered(case, accounts, **changes)
    judged(case, accounts, made, wanted)
    assert ("summary" in changes.get("objects", ())) == ("summary" in [each.role for each in made])


def test_many_analyses_fit_the_description(case: Case) -> None:
    accounts = [*(20 * [found(case)]), *(20 * [negative()]), *(20 * [refused()]), *(20 * [still_open()])]
    assert len(description(accounts)) <= 64


def _hide_the_finding(dataset: Dataset) -> None:
    for entry in walk(dataset):
        if "TextValue" in entry:
            entry.TextValue = str(entry.TextValue).replace("FOUND SOMETHING", "nothing found")


def _drop_the_reason(dataset: Dataset) -> None:
    for entry in walk(dataset):
        if "TextValue" in entry:
            entry.TextValue = str(entry.TextValue).replace("SUI-002", "")


def _drop_the_model(dataset: Dataset) -> None:
    for entry in walk(dataset):
        if "TextValue" in entry:
            entry.TextValue = str(entry.TextValue).replace(OTHER.digest[:12], "")


def _all_clear(dataset: Dataset) -> None:
    for entry in walk(dataset):
        if entry.get("CodeValue") == "111244":
            entry.CodeValue, entry.CodeMeaning = "111241", "All algorithms succeeded; without findings"


def _no_maker(dataset: Dataset) -> None:
    kept = [
        each for each in dataset.ContributingEquipmentSequence if each.get("DeviceSerialNumber") != OTHER.digest[:64]
    ]
    dataset.ContributingEquipmentSequence = kept


@pytest.mark.parametrize(
    "fault",
    [_hide_the_finding, _drop_the_reason, _drop_the_model, _all_clear, _no_maker],
    ids=lambda fault: fault.__name__,
)
def test_faults_are_caught(case: Case, fault: Callable[[Dataset], None]) -> None:
    accounts = [found(case), refused()]
    made, wanted = rendered(case, accounts, ["en"])
    fault(made[0].dataset)
    with pytest.raises(ObjectInvalid):
        judged(case, accounts, made, wanted)


def test_a_result_is_no_part_of_a_combined_status(case: Case, tmp_path: Path) -> None:
    accounts = [found(case), negative()]
    made, wanted = rendered(case, accounts, ["en"])
    for role in ("text-en", "status"):
        with pytest.raises(ObjectInvalid):
            judged(case, accounts, [RenderedObject(role, made[0].dataset)], wanted)
    # And a combined one is no answer of a single result.
    with pytest.raises(ObjectInvalid):
        check(made, case.study, replace(not_assessed(), outcome=Outcome.NOT_ASSESSED), None, profile=wanted.profile)
