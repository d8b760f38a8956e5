"""Filed under the right patient and study, with nothing added and nothing changed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_sr.checks.characters import carried
from dicom_sr.checks.subject import Subject
from dicom_sr.moment import UNKNOWN, valid_date, valid_time

_IDENTITY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "AccessionNumber"),
    *("StudyDate", "StudyTime", "StudyID", "ReferringPhysicianName", "StudyDescription"),
)
_TYPE_2 = frozenset(_IDENTITY) - {"IssuerOfPatientID", "StudyDescription"}
_DATES = ("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate")
_OUR_DATES = ("ContentDate", "SeriesDate", "InstanceCreationDate")
_PATIENT_GROUP = 0x0010


def check_context(subject: Subject) -> Iterator[str]:
    """Patient and study attributes equal the source's; no date is from a clock."""
    days = _source_days(subject)
    for role, dataset in subject.objects:
        if str(dataset.get("StudyInstanceUID", "")) != str(subject.study.study_uid):
            yield f"{role}: Study Instance UID is not the study's"
        yield from _identity_problems(role, dataset, subject)
        yield from _invented(role, dataset, subject)
        for keyword in _OUR_DATES:
            if keyword in dataset and str(dataset.get(keyword)) not in days:
                yield f"{role}: {keyword} is not a date of the sources"
        for item in dataset.get("ContributingEquipmentSequence", []):
            if str(item.get("ContributionDateTime", ""))[:8] not in {"", *days}:
                yield f"{role}: Contribution DateTime is not a date of the sources"


def _source_days(subject: Subject) -> set[str]:
    found = {str(h.get(keyword, "") or "")[:8] for h in subject.study.headers for keyword in _DATES}
    return {UNKNOWN.date} | {day for day in found if day}


def _is_sound(keyword: str, value: str) -> bool:
    """Whether a source's value may be taken over as it is."""
    if keyword == "PatientSex":
        return value in ("", "M", "F", "O")
    if keyword.endswith("Date"):
        return not value or bool(valid_date(value))
    if keyword.endswith("Time"):
        return not value or bool(valid_time(value))
    return True


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword, "") or "")


def _identity_problems(role: str, dataset: Dataset, subject: Subject) -> Iterator[str]:
    # Values are never quoted: a problem ends in logs, and those hold nothing about a patient.
    for keyword in _IDENTITY:
        if keyword in _TYPE_2 and keyword not in dataset:
            yield f"{role}: {keyword} (Type 2) is absent"
        ours, theirs = _text(dataset, keyword), _text(subject.base, keyword)
        if not _is_sound(keyword, theirs):
            theirs = ""
        if ours == carried(theirs, subject.profile):
            continue
        elsewhere = {carried(_text(header, keyword), subject.profile) for header in subject.study.headers}
        if theirs or ours not in elsewhere:
            yield f"{role}: {keyword} differs from the source"


def _invented(role: str, dataset: Dataset, subject: Subject) -> Iterator[str]:
    for element in dataset:
        if element.tag.group != _PATIENT_GROUP or element.keyword in _IDENTITY or element.VR == "SQ":
            continue
        if element.tag not in subject.base or str(element.value) != carried(
            str(subject.base[element.tag].value), subject.profile
        ):
            yield f"{role}: {element.keyword} is not the source's"


_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_MAXIMUM_UID_LENGTH = 64


def check_uids(subject: Subject) -> Iterator[str]:
    """Our UIDs are valid, each object's its own, and none is a source's; no object goes into a source's series."""
    theirs = set(subject.headers) | {str(h.get("SeriesInstanceUID", "")) for h in subject.study.headers}
    foreign = theirs | {str(subject.study.study_uid)}
    seen: set[str] = set()
    for role, dataset in subject.objects:
        meta = dataset.file_meta
        instance, series = str(dataset.get("SOPInstanceUID", "")), str(dataset.get("SeriesInstanceUID", ""))
        if (meta.get("MediaStorageSOPInstanceUID"), meta.get("MediaStorageSOPClassUID")) != (
            dataset.get("SOPInstanceUID"),
            dataset.get("SOPClassUID"),
        ):
            yield f"{role}: file meta information names another object"
        if instance in foreign or instance in seen:
            yield f"{role}: SOP Instance UID is used already"
        if series in foreign:
            yield f"{role}: written into a series of the sources"
        seen.add(instance)
        if wrong := sorted({tag for tag, uid in _uids(dataset) if not _is_valid(uid) and uid not in foreign}):
            yield f"{role}: invalid UID in {', '.join(wrong)}"


def _is_valid(uid: str) -> bool:
    return len(uid) <= _MAXIMUM_UID_LENGTH and bool(_UID.fullmatch(uid))


def _uids(dataset: Dataset) -> Iterator[tuple[str, str]]:
    for element in dataset:
        if element.VR == "SQ":
            for entry in element.value:
                yield from _uids(entry)
        elif element.VR == "UI" and element.value:
            values = [element.value] if isinstance(element.value, str) else element.value
            yield from ((element.keyword or str(element.tag), str(value)) for value in values)
