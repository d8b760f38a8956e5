"""How much one study may put into a list of series, and what never passes for the report."""

from __future__ import annotations

import pytest

from dicom_sr.check import check
from dicom_sr.profile import OBJECT_KINDS
from dicom_sr.rendering import kind_of
from models.results import StudyResult
from node.settings import ProfileSection
from tests.generators.results import not_assessed, nothing_found
from tests.unit.dicom_sr_objects.cases import Case


def kinds(case: Case, result: StudyResult | None = None, **profile: object) -> set[str]:
    objects = case.rendered(result, objects=OBJECT_KINDS, **profile)
    check(objects, case.study, result or case.result, case.source)
    return {kind_of(each.role) for each in objects}


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(1, {"seg"}), (2, {"seg", "measurements"}), (3, {"seg", "measurements", "text"})],
)
def test_the_least_important_kinds_are_left_out_first(case: Case, budget: int, expected: set[str]) -> None:
    assert kinds(case, maximum_series=budget) == expected
    made = case.rendered(objects=OBJECT_KINDS, maximum_series=budget)
    assert len({each.dataset.SeriesInstanceUID for each in made}) == budget
    assert min(each.dataset.SeriesNumber for each in made) >= 9000


def test_a_status_is_never_over_the_budget(case: Case) -> None:
    made = case.rendered(not_assessed(), maximum_series=1)
    assert {kind_of(each.role) for each in made} == {"status"}
    assert len({each.dataset.SeriesInstanceUID for each in made}) == 1


def test_no_text_goes_where_it_might_become_the_report(case: Case) -> None:
    assert "text" not in kinds(case, text_documents=False, maximum_series=100)
    # Not even where nothing else was asked for: a study still has an answer, and that is no text.
    only_text = case.rendered(objects=("text",), text_documents=False)
    assert {kind_of(each.role) for each in only_text} == {"seg"}
    assert {kind_of(each.role) for each in case.rendered(nothing_found(), objects=("text",), text_documents=False)} == {
        "status"
    }


def test_settings_send_text_only_where_somebody_has_said_what_becomes_of_it() -> None:
    assert not ProfileSection().as_profile("p").text_documents
    assert ProfileSection().as_profile("p").maximum_series == 2
    assert ProfileSection().kept_back == ["text"]
    shown = ProfileSection(text_documents="shown_as_draft")
    assert shown.as_profile("p").text_documents and shown.kept_back == []
    assert not ProfileSection(text_documents="become_the_report").as_profile("p").text_documents
