"""Every object says who made it, from what and how; every code says what it means."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_sr.checks.subject import Subject, walk
from dicom_sr.codes import meaning_is_right

_EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber")
_ITEM = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "PurposeOfReferenceCodeSequence")
# The study's own codes are taken over as they are, right or wrong.
_FOREIGN = frozenset({"RequestAttributesSequence", "ReferencedRequestSequence", "ContributingEquipmentSequence"})


def check_provenance(subject: Subject) -> Iterator[str]:
    """Equipment, contributing model with its own Device UID, qualification (IHE AIR 6.5.3.1; PS3.3 C.12.1)."""
    for role, dataset in subject.objects:
        for keyword in (*_EQUIPMENT, "SeriesDescription", "ContentQualification", "StationName"):
            if not dataset.get(keyword):
                yield f"{role}: {keyword} is absent"
        if dataset.get("ContentQualification") == "PRODUCT":
            yield f"{role}: qualified as an approved product"
        models = [entry for entry in dataset.get("ContributingEquipmentSequence", []) if entry.get("DeviceUID")]
        for entry in models:
            for keyword in _ITEM:
                if not entry.get(keyword):
                    yield f"{role}: Contributing Equipment lacks {keyword}"
        named = {str(entry.get("DeviceSerialNumber", "")) for entry in models}
        if not {result.model.digest[:64] for result in subject.results} <= named:
            yield f"{role}: the model is not among the contributing equipment"
        if dataset.get("DeviceUID"):
            yield f"{role}: Device UID at the root belongs to no single device"
    for role, segmentation in subject.of_kind("seg"):
        yield from _segment_problems(role, segmentation, subject.result.model.digest)


def _segment_problems(role: str, segmentation: Dataset, digest: str) -> Iterator[str]:
    for segment in segmentation.get("SegmentSequence", []):
        number = segment.get("SegmentNumber")
        if number == 0:  # the background of a label map was found by nobody
            continue
        if segment.get("SegmentAlgorithmType") != "AUTOMATIC" or not segment.get("SegmentAlgorithmName"):
            yield f"{role}: segment {number} does not say that an algorithm made it"
        algorithms = segment.get("SegmentationAlgorithmIdentificationSequence", [])
        if not any(digest in str(entry.get("AlgorithmParameters", "")) for entry in algorithms):
            yield f"{role}: segment {number} does not name the weights"
        if not segment.get("TrackingUID") or not segment.get("TrackingID"):
            yield f"{role}: segment {number} has no tracking identifiers"


def check_codes(subject: Subject) -> Iterator[str]:
    """Each of our codes has the meaning the dictionary gives it, or belongs to an identified private scheme."""
    taken_over = set(subject.base.keys())
    for role, dataset in subject.objects:
        schemes = {
            str(entry.get("CodingSchemeDesignator", ""))
            for entry in dataset.get("CodingSchemeIdentificationSequence", [])
        }
        ours = Dataset()
        for element in dataset:
            copied = element.tag in taken_over and element.tag.group in (0x0008, 0x0010, 0x0012)
            if element.VR == "SQ" and not copied and element.keyword not in _FOREIGN:
                ours.add(element)
        for entry in walk(ours):
            if "CodeValue" not in entry or meaning_is_right(entry):
                continue
            if str(entry.get("CodingSchemeDesignator", "")) not in schemes:
                value, scheme = entry.get("CodeValue"), entry.get("CodingSchemeDesignator")
                yield f"{role}: code ({value}, {scheme}) does not mean {entry.get('CodeMeaning')!r}"
