"""Series Descriptions of a destination's own: where they stand, and what they never cover."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from dicom_sr.check import check
from dicom_sr.profile import Profile
from dicom_sr.rendering import EarlierObject
from dicom_sr.retraction import Taken, render_retractions
from dicom_sr.source_header import normalise
from node.settings import ProfileSection
from tests.generators.results import not_assessed
from tests.unit.dicom_sr_objects.cases import REPORTS, Case, context

OWN = {"seg": "AI overlay", "measurements": "AI numbers", "key_objects": "AI key images", "summary": "AI one picture"}


def test_results_are_described_as_the_destination_wants_and_statuses_as_they_are(case: Case) -> None:
    wanted = ProfileSection(objects=[*REPORTS, "summary"], series_descriptions=OWN).as_profile("p")
    settings = {"objects": wanted.objects, "series_descriptions": wanted.series_descriptions}
    objects = case.rendered(**settings)
    check(objects, case.study, case.result, case.source)
    said = {each.role: each.dataset.SeriesDescription for each in objects}
    assert {kind: said[kind] for kind in OWN} == OWN
    assert said["text-en"] == "AI: draft report, not reviewed" and said["presentation"] == "AI: outlines, not reviewed"
    refused = not_assessed("SER-001")
    statuses = case.rendered(refused, **settings)
    assert {each.dataset.SeriesDescription for each in statuses} == {"AI: did not run", "AI: not assessed"}
    header = objects[0].dataset
    made = EarlierObject("seg", header.SOPClassUID, header.SOPInstanceUID, header.SeriesInstanceUID)
    (note,) = render_retractions(
        Taken([made], "2026-01-31 03:12", 1),
        normalise(case.study, None),
        context(**settings),
        refused,
        as_rejection=True,
        languages=["en"],
    )
    assert note.dataset.SeriesDescription == "AI: earlier result rejected"


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "AI status"},
        {"text": "AI text"},
        {"seg": "Overlay"},
        {"seg": "PAINT overlay"},
        {"seg": "AI" + "x" * 46},
        {"seg": "AI\\overlay"},
    ],
)
def test_what_hides_whose_result_it_is_or_does_not_fit_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ProfileSection(series_descriptions=wrong)  # type: ignore[arg-type]


def test_without_any_the_same_work_keeps_its_uids() -> None:
    assert "series_descriptions" not in Profile().content
    assert Profile(series_descriptions=(("seg", "AI"),)).content != Profile().content
