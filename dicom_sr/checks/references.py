"""Everything referred to exists, is of the class said, and stands where it is said to stand."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_sr.checks.subject import Subject, walk

_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")


def check_references(subject: Subject) -> Iterator[str]:
    """References resolve; evidence lists exactly what the content refers to (PS3.3 C.17.2)."""
    instances: dict[str, Dataset] = {str(each.SOPInstanceUID): each for each in subject.known} | subject.headers
    instances.update({str(dataset.get("SOPInstanceUID", "")): dataset for _, dataset in subject.objects})
    for role, dataset in subject.objects:
        for reference in walk(dataset):
            if "ReferencedSOPInstanceUID" in reference:
                yield from _reference_problems(role, reference, instances)
        for container in walk(dataset):
            yield from _series_problems(role, container, instances)
    for role, report in subject.documents:
        content = Dataset()
        if "ContentSequence" in report:
            content.ContentSequence = report.ContentSequence
        listed = {uid for keyword in _EVIDENCE for entry in report.get(keyword, []) for uid in _named(entry)}
        if set(_named(content)) != listed:
            yield f"{role}: evidence differs from what the content refers to"


def _named(dataset: Dataset) -> Iterator[str]:
    for entry in walk(dataset):
        if "ReferencedSOPInstanceUID" in entry:
            yield str(entry.ReferencedSOPInstanceUID)


def _reference_problems(role: str, reference: Dataset, instances: dict[str, Dataset]) -> Iterator[str]:
    uid = str(reference.ReferencedSOPInstanceUID)
    target = instances.get(uid)
    if target is None:
        yield f"{role}: refers to {uid}, which is neither a source nor in the set"
        return
    if str(reference.get("ReferencedSOPClassUID", "")) != str(target.get("SOPClassUID", "")):
        yield f"{role}: refers to {uid} with another SOP class than it has"
    total = int(target.get("NumberOfFrames", 1) or 1)
    if any(not 1 <= n <= total for n in _numbers(reference.get("ReferencedFrameNumber"))):
        yield f"{role}: refers to a frame that {uid} does not have"
    segments = {int(segment.get("SegmentNumber", 0)) for segment in target.get("SegmentSequence", [])}
    if not set(_numbers(reference.get("ReferencedSegmentNumber"))) <= segments:
        yield f"{role}: refers to a segment that {uid} does not have"


def _numbers(value: object) -> list[int]:
    if value is None or value == "":
        return []
    return [int(n) for n in value] if isinstance(value, MultiValue | list) else [int(str(value))]


def _series_problems(role: str, container: Dataset, instances: dict[str, Dataset]) -> Iterator[str]:
    for keyword in ("ReferencedInstanceSequence", "ReferencedSOPSequence"):
        for reference in container.get(keyword, []) if "SeriesInstanceUID" in container else ():
            target = instances.get(str(reference.get("ReferencedSOPInstanceUID", "")))
            if target is not None and target.get("SeriesInstanceUID") != container.SeriesInstanceUID:
                yield f"{role}: places {reference.ReferencedSOPInstanceUID} in a series it is not in"
