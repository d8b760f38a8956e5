"""The modules every structured report has: document general, evidence, content (PS3.3 C.17)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

from pydicom.dataset import Dataset

from dicom_sr.source_header import SourceHeader


def add_document(target: Dataset, *, root: Dataset, header: SourceHeader, known: Sequence[Dataset]) -> None:
    """Turn a composed data set into a document.

    Parameters
    ----------
    root : Dataset
        Root container of the content tree; its elements move into ``target``.
    known : sequence of Dataset
        Instances the content may refer to, with their UIDs. Only those it does refer to become evidence.

    Notes
    -----
    A device's draft is complete, preliminary and never verified: Completion Flag COMPLETE, Preliminary Flag
    PRELIMINARY, Verification Flag UNVERIFIED (PS3.3 C.17.2).
    """
    target.CompletionFlag = "COMPLETE"
    target.PreliminaryFlag = "PRELIMINARY"
    target.VerificationFlag = "UNVERIFIED"
    target.ReferencedPerformedProcedureStepSequence = []
    target.PerformedProcedureCodeSequence = []
    target.ReferencedRequestSequence = [_request(entry) for entry in header.requests]
    for element in root:
        if element.keyword != "RelationshipType":
            target.add(element)
    if evidence := _evidence(root, known):
        target.CurrentRequestedProcedureEvidenceSequence = evidence


def references(content: Dataset) -> Iterator[Dataset]:
    """Every item below ``content`` that refers to an instance, in document order."""
    for element in content:
        if element.VR == "SQ":
            for entry in element.value:
                if "ReferencedSOPInstanceUID" in entry:
                    yield entry
                yield from references(entry)


def _request(source: Dataset) -> Dataset:
    """Item of Referenced Request Sequence (PS3.3 C.17.2): all of Type 2, empty where the images say nothing."""
    request = Dataset()
    request.StudyInstanceUID = source.StudyInstanceUID
    request.ReferencedStudySequence = []
    request.AccessionNumber = source.AccessionNumber
    request.PlacerOrderNumberImagingServiceRequest = source.get("PlacerOrderNumberImagingServiceRequest", "")
    request.FillerOrderNumberImagingServiceRequest = source.get("FillerOrderNumberImagingServiceRequest", "")
    request.RequestedProcedureID = source.get("RequestedProcedureID", "")
    request.RequestedProcedureDescription = source.get("RequestedProcedureDescription", "")
    request.RequestedProcedureCodeSequence = deepcopy(source.get("RequestedProcedureCodeSequence", []))
    return request


def _evidence(root: Dataset, known: Sequence[Dataset]) -> list[Dataset]:
    """Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1) for what the content refers to."""
    whereabouts = {str(instance.SOPInstanceUID): instance for instance in known}
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for reference in references(root):
        uid = str(reference.ReferencedSOPInstanceUID)
        instance = whereabouts[uid]
        series = studies.setdefault(str(instance.StudyInstanceUID), {})
        series.setdefault(str(instance.SeriesInstanceUID), {})[uid] = str(instance.SOPClassUID)
    items = []
    for study_uid, series in studies.items():
        item = Dataset()
        item.ReferencedSeriesSequence = [_series(uid, instances) for uid, instances in series.items()]
        item.StudyInstanceUID = study_uid
        items.append(item)
    return items


def _series(uid: str, instances: dict[str, str]) -> Dataset:
    item = Dataset()
    item.ReferencedSOPSequence = [instance_reference(sop_class, sop) for sop, sop_class in instances.items()]
    item.SeriesInstanceUID = uid
    return item


def instance_reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """SOP Instance Reference Macro (PS3.3 Table 10-11)."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = sop_class_uid
    reference.ReferencedSOPInstanceUID = sop_instance_uid
    return reference
