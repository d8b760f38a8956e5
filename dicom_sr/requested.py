"""The order a study was made for, as far as results repeat it: Referenced Request and Request Attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from dicom_sr.source_header import SourceHeader


@dataclass(frozen=True, slots=True)
class RequestedCode:
    """A coded term of an order: code value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class RequestedProcedure:
    """What an order says of one requested procedure; it was found to agree with the images by the caller.

    Attributes
    ----------
    accession_number : str
        Stands in the result's request only where the images carry none.
    codes, protocol_codes : tuple of RequestedCode
        Requested Procedure Code Sequence and Scheduled Protocol Code Sequence.
    """

    accession_number: str = ""
    requested_procedure_id: str = ""
    requested_procedure_description: str = ""
    codes: tuple[RequestedCode, ...] = ()
    reason: str = ""
    step_id: str = ""
    step_description: str = ""
    protocol_codes: tuple[RequestedCode, ...] = ()
    placer_order_number: str = ""
    filler_order_number: str = ""


def ordered_requests(header: SourceHeader, procedures: Sequence[RequestedProcedure]) -> tuple[Dataset, ...]:
    """Request items of the orders, in the place of what the images say of them (IHE AIW-I: the order's words first)."""
    return tuple(_item(header, procedure) for procedure in procedures)


def identify_schemes(dataset: Dataset, procedures: Sequence[RequestedProcedure]) -> None:
    """Name the coding schemes of the order that are a site's own or a country's (0008,0110; PS3.3 C.12.1.1.1)."""
    codes = [code for procedure in procedures for code in (*procedure.codes, *procedure.protocol_codes)]
    present = {
        entry.CodingSchemeDesignator
        for keyword in ("ReferencedRequestSequence", "RequestAttributesSequence")
        for request in dataset.get(keyword, ())
        for sequence in ("RequestedProcedureCodeSequence", "ScheduledProtocolCodeSequence")
        for entry in request.get(sequence, ())
    }
    named = {entry.CodingSchemeDesignator for entry in dataset.get("CodingSchemeIdentificationSequence", ())}
    added = []
    for scheme in sorted({code.scheme[:16] for code in codes}):
        if scheme in present - named and scheme.startswith(("99", "JJ1017")):
            item = Dataset()
            item.CodingSchemeDesignator = scheme
            item.CodingSchemeName = "JJ1017" if scheme.startswith("JJ1017") else "Coding scheme of the ordering site"
            added.append(item)
    if added:
        known = dataset.get("CodingSchemeIdentificationSequence", ())
        dataset.CodingSchemeIdentificationSequence = DicomSequence([*known, *added])


def _item(header: SourceHeader, procedure: RequestedProcedure) -> Dataset:
    item = Dataset()
    item.AccessionNumber = header.attributes.AccessionNumber or procedure.accession_number[:16]
    item.StudyInstanceUID = header.study_uid
    # VR LO and SH end at 64 and 16 characters (PS3.5 table 6.2-1).
    item.RequestedProcedureID = procedure.requested_procedure_id[:16]
    item.RequestedProcedureDescription = procedure.requested_procedure_description[:64]
    if codes := _codes(procedure.codes):
        item.RequestedProcedureCodeSequence = codes
    if procedure.reason:
        item.ReasonForTheRequestedProcedure = procedure.reason[:64]
    if procedure.step_id:
        item.ScheduledProcedureStepID = procedure.step_id[:16]
    if procedure.step_description:
        item.ScheduledProcedureStepDescription = procedure.step_description[:64]
    if codes := _codes(procedure.protocol_codes):
        item.ScheduledProtocolCodeSequence = codes
    item.PlacerOrderNumberImagingServiceRequest = procedure.placer_order_number[:64]
    item.FillerOrderNumberImagingServiceRequest = procedure.filler_order_number[:64]
    return item


def _codes(codes: Sequence[RequestedCode]) -> DicomSequence:
    """Complete codes only: a code without scheme or meaning breaks the macro (PS3.3 table 8.8-1)."""
    items = []
    for code in codes:
        if code.value and code.scheme and code.meaning and len(code.value) <= 16:
            item = Dataset()
            item.CodeValue = code.value
            item.CodingSchemeDesignator = code.scheme[:16]
            item.CodeMeaning = code.meaning[:64]
            items.append(item)
    return DicomSequence(items)
