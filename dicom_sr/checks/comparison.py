"""A comparison with an earlier study says what the result says, and refers to the earlier segmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from dicom_sr.checks.numbers import Numbers, Stated
from dicom_sr.checks.subject import Subject, concept
from models.results import Change, LesionChange, Region, StudyResult

_SEGMENT, _TRACKING_UID, _TIME_POINT, _DIFFERENCE, _VOLUME = "121191", "112040", "C2348792", "111049", "118565006"
_CHANGE, _RELATIVE = ("442714003", "mL", ""), ("442714003", "%", "")
_TRACKING_ID = "112039"
_CODES = {
    Change.NEW: "129721008",
    Change.LARGER: "15454001",
    Change.SMALLER: "19776001",
    Change.UNCHANGED: "129723006",
}
_TOLERANCE = 1e-5


def is_prior(group: Dataset, subject: Subject) -> bool:
    """Whether a TID 1411 group measures the earlier study: its segment is one of the object the result names."""
    comparison = subject.result.comparison
    return comparison is not None and _segment(group)[0] == comparison.prior_segmentation_uid != ""


def change_numbers(region: Region, result: StudyResult) -> Numbers:
    """Numbers that the comparison adds to a region's group."""
    change = _change_of(region.number, result)
    if change is None or change.current_ml is None or not change.prior_ml:
        return {}
    difference = change.current_ml - change.prior_ml
    return {
        _CHANGE: Stated(difference),
        _RELATIVE: Stated(100.0 * difference / change.prior_ml),
    }


def comparison_problems(groups: Sequence[tuple[str, Dataset]], subject: Subject) -> Iterator[str]:
    """Coded differences, and one group of then for each lesion that was there."""
    comparison = subject.result.comparison
    if comparison is None or not groups:
        return
    stated = {}
    for role, group in groups:
        if is_prior(group, subject):
            stated[_segment(group)[1]] = (role, group)
            if _text(group, _TIME_POINT) != "prior":
                yield f"{role}: an earlier group is not marked as prior"
            continue
        if _text(group, _TIME_POINT) not in ("", "current"):
            yield f"{role}: a group of now is marked as another time point"
        yield from _difference_problems(role, group, subject)
    followed = {each.prior_number: each for each in comparison.lesions if each.prior_number and each.tracking.uid}
    if comparison.prior_segmentation_uid and set(stated) - set(followed):
        yield "measurements: an earlier group belongs to no lesion of the comparison"
    for number, (role, group) in stated.items():
        if number in followed:
            yield from _prior_problems(role, group, followed[number])


def _difference_problems(role: str, group: Dataset, subject: Subject) -> Iterator[str]:
    """The coded difference, on a number of the group."""
    comparison, mask = subject.result.comparison, subject.result.segmentation
    assert comparison is not None
    lesions = {each.current_number: each for each in comparison.lesions}
    numbers = {region.label: region.number for region in (mask.regions if mask is not None else ())}
    followed = next((each for each in comparison.lesions if each.tracking.uid == _uid(group)), None)
    # A lesion that was not there has an identity of its own, and is known by its name. Of lesions that parted only the
    # largest is followed; of its companions nothing is stated.
    change = followed or lesions.get(numbers.get(_text(group, _TRACKING_ID)))
    expected = [_CODES[change.change]] if change is not None and change.change in _CODES else []
    stated = [
        concept(entry, "ConceptCodeSequence")
        for number in group.get("ContentSequence", [])
        if number.get("ValueType") == "NUM"
        for entry in number.get("ContentSequence", [])
        if concept(entry) == _DIFFERENCE
    ]
    if stated != expected:
        yield f"{role}: the coded difference is not the comparison's"


def _prior_problems(role: str, group: Dataset, change: LesionChange) -> Iterator[str]:
    if _uid(group) != change.tracking.uid:
        yield f"{role}: an earlier group has another tracking UID than the lesion"
    number = next((entry for entry in group.get("ContentSequence", []) if concept(entry) == _VOLUME), Dataset())
    measured = number.get("MeasuredValueSequence")
    value = float(measured[0].NumericValue) if measured else math.nan
    if change.prior_ml is None or not math.isclose(value, change.prior_ml, rel_tol=_TOLERANCE, abs_tol=1e-9):
        yield f"{role}: the earlier volume differs from the comparison"


def _change_of(number: int, result: StudyResult) -> LesionChange | None:
    lesions = result.comparison.lesions if result.comparison is not None else ()
    return next((each for each in lesions if each.current_number == number), None)


def _segment(group: Dataset) -> tuple[str, int]:
    entry = next((each for each in group.get("ContentSequence", []) if concept(each) == _SEGMENT), Dataset())
    references = entry.get("ReferencedSOPSequence")
    if not references:
        return "", 0
    return str(references[0].ReferencedSOPInstanceUID), int(references[0].get("ReferencedSegmentNumber", 0))


def _uid(group: Dataset) -> str:
    entry = next((each for each in group.get("ContentSequence", []) if concept(each) == _TRACKING_UID), Dataset())
    return str(entry.get("UID", ""))


def _text(group: Dataset, name: str) -> str:
    entry = next((each for each in group.get("ContentSequence", []) if concept(each) == name), Dataset())
    return str(entry.get("TextValue", ""))
