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
    target.ReferencedRequestSequence = referenced_requests(header)
    for element in root:
        if element.keyword != "RelationshipType":
            target.add(element)
    add_evidence(target, evidence(root, known), header.study_uid)


def add_evidence(target: Dataset, found: Sequence[Dataset], study_uid: str) -> None:
    """File evidence of the study reported on under the current procedure, that of other studies beside it (C.17.2.3)."""
    current = [entry for entry in found if str(entry.StudyInstanceUID) == study_uid]
    others = [entry for entry in found if str(entry.StudyInstanceUID) != study_uid]
    if current:
        target.CurrentRequestedProcedureEvidenceSequence = current
    if others:
        target.PertinentOtherEvidenceSequence = others


def references(content: Dataset) -> Iterator[Dataset]:
    """Every item below ``content`` that refers to an instance, in document order."""
    for element in content:
        if element.VR == "SQ":
            for entry in element.value:
                if "ReferencedSOPInstanceUID" in entry:
                    yield entry
                yield from references(entry)


def referenced_requests(header: SourceHeader) -> list[Dataset]:
    """Items of Referenced Request Sequence: what was ordered, as far as the images say."""
    return [_request(entry) for entry in header.requests]


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


def evidence(root: Dataset, known: Sequence[Dataset]) -> list[Dataset]:
    """Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1) for what the content refers to.

    Parameters
    ----------
    root : Dataset
        Content tree.
    known : sequence of Dataset
        Instances it may refer to, with their UIDs.
    """
    whereabouts = {str(instance.SOPInstanceUID): instance for instance in known}
    return hierarchy([whereabouts[str(reference.ReferencedSOPInstanceUID)] for reference in references(root)])


def hierarchy(instances: Sequence[Dataset]) -> list[Dataset]:
    """Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1) of instances, by study and series in their order."""
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for instance in instances:
        series = studies.setdefault(str(instance.StudyInstanceUID), {})
        series.setdefault(str(instance.SeriesInstanceUID), {})[str(instance.SOPInstanceUID)] = str(instance.SOPClassUID)
    items = []
    for study_uid, found in studies.items():
        item = Dataset()
        item.ReferencedSeriesSequence = [_series(uid, members) for uid, members in found.items()]
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
