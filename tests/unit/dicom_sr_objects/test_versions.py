"""What objects say of the result whose place they take."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.check import check
from dicom_sr.checks.subject import concept, walk
from dicom_sr.errors import ObjectInvalid
from dicom_sr.rendering import EarlierObject, RenderedObject
from dicom_sr.retraction import Taken, render_retractions
from dicom_sr.source_header import normalise
from dicom_sr.versions import header_of, name_predecessors
from models.results import Outcome, Replaced
from tests.generators.results import not_assessed
from tests.unit.dicom_sr_objects.cases import Case, context

EARLIER = Replaced("2026-01-31 03:12", 1, Outcome.FOUND, 12.0, 20, 0, ("FLAIR",))


@pytest.mark.parametrize(
    ("series", "total_ml", "expected"),
    [
        ("AI: measurements, not reviewed", 14.04, "AI: measurements, not reviewed, 12.0 -> 14.0 mL, replaces 03:12"),
        ("AI: measurements, not reviewed", 12.01, "AI: measurements, not reviewed, still 12.0 mL, replaces 03:12"),
        ("AI: segmentation, infarct-adc-baseline 1.1.0", 14.0, "AI: segmentation, 12.0 -> 14.0 mL, replaces 03:12"),
        (
            "AI: draft report, not reviewed, by request",
            14.0,
            "AI: draft report, not reviewed, by request, replaces 03:12",
        ),
        ("AI: did not run", None, "AI: did not run, replaces 03:12"),
    ],
)
def test_the_series_says_both_volumes_in_what_a_list_shows(series: str, total_ml: float | None, expected: str) -> None:
    dataset = Dataset()
    dataset.SeriesDescription, dataset.Modality = series, "SEG"
    name_predecessors([RenderedObject("seg", dataset)], EARLIER, (), total_ml)
    assert dataset.SeriesDescription == expected and len(expected) <= 64


def test_a_note_says_what_is_different() -> None:
    taken = Taken([], "2026-01-31 03:12", 1, EARLIER, Outcome.FOUND, 14.0)
    assert taken.told("en") == (
        "the AI result of 2026-01-31 03:12 (run 1) is replaced by a later one: 12.0 mL → 14.0 mL; 20 images added (FLAIR)"
    )
    assert taken.told("ja").endswith("：12.0 mL→14.0 mL、画像20枚追加（FLAIR）")
    gone = Taken([], "2026-01-31 03:12", 1, EARLIER, Outcome.NOTHING_FOUND, 0.0)
    assert "12.0 mL → nothing found" in gone.told("en") and "12.0 mL→所見なし" in gone.told("ja")


def test_a_result_that_was_only_written_anew_is_not_called_another_one() -> None:
    anew = Taken([], "2026-01-31 03:12", 1, is_same_run=True)
    assert "what it says is the same" in anew.told("en") and "内容は同じ" in anew.told("ja")
    assert "replaced by a later one" not in anew.told("en")


def _references(note: Dataset) -> list[Dataset]:
    return [entry for entry in note.ContentSequence if "ReferencedSOPSequence" in entry]


def _rejects_an_image(note: Dataset, case: Case) -> None:
    """Of the patient: an archive would hide it from whoever reads."""
    header = case.source.header
    _references(note)[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = header.SOPInstanceUID
    _references(note)[0].ReferencedSOPSequence[0].ReferencedSOPClassUID = header.SOPClassUID


def _rejects_one_too_many(note: Dataset, case: Case) -> None:
    more = deepcopy(_references(note)[0])
    more.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = case.source.frames[0].sop_instance_uid
    more.ReferencedSOPSequence[0].ReferencedSOPClassUID = case.source.frames[0].sop_class_uid
    note.ContentSequence.append(more)


def _forgets_one(note: Dataset, case: Case) -> None:
    note.ContentSequence.remove(_references(note)[-1])


def _selects(note: Dataset, case: Case) -> None:
    note.ConceptNameCodeSequence[0].CodeValue = "113000"
    note.ConceptNameCodeSequence[0].CodeMeaning = "Of Interest"


def _says_nothing(note: Dataset, case: Case) -> None:
    note.ContentSequence = [entry for entry in note.ContentSequence if concept(entry) != "113012"]


def _names_an_image_in_words(note: Dataset, case: Case) -> None:
    (said,) = [entry for entry in walk(note) if concept(entry) == "121071" and "TextValue" in entry]
    said.TextValue += f"\r\nseg: {case.source.frames[0].sop_instance_uid}"


def _forgets_one_in_words(note: Dataset, case: Case) -> None:
    (said,) = [entry for entry in walk(note) if concept(entry) == "121071" and "TextValue" in entry]
    said.TextValue = "\r\n".join(line for line in said.TextValue.split("\r\n") if "seg: " not in line)


FAULTS: dict[Callable[[Dataset, Case], None], bool] = {
    _rejects_an_image: True,
    _rejects_one_too_many: True,
    _forgets_one: True,
    _selects: True,
    _says_nothing: True,
    _names_an_image_in_words: False,
    _forgets_one_in_words: False,
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_note_that_takes_back_something_else_does_not_leave(
    fault: Callable[[Dataset, Case], None], case: Case
) -> None:
    made = [
        EarlierObject(o.role, str(d.SOPClassUID), str(d.SOPInstanceUID), str(d.SeriesInstanceUID))
        for o in case.rendered()
        for d in [o.dataset]
    ]
    result, known = not_assessed("SER-001"), [header_of(each, str(case.study.study_uid)) for each in made]
    (note,) = render_retractions(
        Taken(made, "2026-01-31 03:12", 1, EARLIER, Outcome.FOUND, 14.0),
        normalise(case.study, None),
        context(),
        result,
        as_rejection=FAULTS[fault],
        languages=["en"],
    )
    check([note], case.study, result, None, known=known)
    damaged = RenderedObject(note.role, dcmread(BytesIO(note.encoded)))
    fault(damaged.dataset, case)
    with pytest.raises(ObjectInvalid):
        check([damaged], case.study, result, None, known=known)
