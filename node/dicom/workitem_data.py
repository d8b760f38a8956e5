"""Unified Procedure Steps as data sets: what a performer asks, reads and writes (PS3.4 table CC.2.5-3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from node.dicom.worklist import codes_of, text_of
from node.orders import Code, Order
from node.site_time import seconds_of
from node.workitem import MEANINGS, Output, Reason, StepState, Verdict, Workitem

_KEYS = (
    *("SOPClassUID", "SOPInstanceUID", "ScheduledProcedureStepPriority", "ProcedureStepLabel", "WorklistLabel"),
    *("ScheduledProcedureStepStartDateTime", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate"),
    *("PatientSex", "StudyInstanceUID"),
)
_SEQUENCES = (
    *("ScheduledWorkitemCodeSequence", "ScheduledStationNameCodeSequence", "ScheduledStationClassCodeSequence"),
    *("InputInformationSequence", "ReferencedRequestSequence"),
)


def search_identifier() -> Dataset:
    """Identifier of a search for what is scheduled and ready, with every key wanted."""
    query = Dataset()
    for keyword in _KEYS:
        setattr(query, keyword, "")
    for keyword in _SEQUENCES:
        setattr(query, keyword, DicomSequence())
    query.ProcedureStepState = StepState.SCHEDULED
    query.InputReadinessState = "READY"
    return query


def read_workitem(found: Dataset, uid: str = "") -> Workitem:
    """A data set as a typed workitem; what is missing or unreadable is empty."""
    request = next(iter(found.get("ReferencedRequestSequence") or ()), Dataset())
    codes = codes_of(found, "ScheduledWorkitemCodeSequence")
    uid = uid or text_of(found, "SOPInstanceUID")
    inputs = _inputs(found.get("InputInformationSequence") or ())
    start = text_of(found, "ScheduledProcedureStepStartDateTime")
    studies = sorted(inputs)
    return Workitem(
        uid=uid,
        state=text_of(found, "ProcedureStepState"),
        label=text_of(found, "ProcedureStepLabel"),
        code=codes[0] if codes else Code(""),
        stations=codes_of(found, "ScheduledStationNameCodeSequence"),
        readiness=text_of(found, "InputReadinessState"),
        inputs=inputs,
        order=Order(
            study_uid=studies[0] if studies else text_of(found, "StudyInstanceUID"),
            accession_number=text_of(request, "AccessionNumber"),
            patient_id=text_of(found, "PatientID"),
            issuer_of_patient_id=text_of(found, "IssuerOfPatientID"),
            patient_name=text_of(found, "PatientName"),
            patient_birth_date=text_of(found, "PatientBirthDate"),
            patient_sex=text_of(found, "PatientSex"),
            starts_at=seconds_of(start[:8], start[8:14]),
            step_description=text_of(found, "ProcedureStepLabel"),
            protocol_codes=codes,
            requested_procedure_id=text_of(request, "RequestedProcedureID"),
            requested_procedure_description=text_of(request, "RequestedProcedureDescription"),
            procedure_codes=codes_of(request, "RequestedProcedureCodeSequence"),
            reason=text_of(request, "ReasonForTheRequestedProcedure"),
            priority=text_of(found, "ScheduledProcedureStepPriority").upper(),
            placer_order_number=text_of(request, "PlacerOrderNumberImagingServiceRequest"),
            filler_order_number=text_of(request, "FillerOrderNumberImagingServiceRequest"),
            workitem_uid=uid,
        ),
    )


def claim_information(transaction_uid: str, state: StepState) -> Dataset:
    """Action information of Change UPS State (PS3.4 table CC.2.1-1)."""
    content = Dataset()
    content.ProcedureStepState = state
    content.TransactionUID = UID(transaction_uid)
    return content


def progress(verdict: Verdict, now: datetime) -> Dataset:
    """Modification list that tells how far the step is; of a cancelled one also why."""
    item = Dataset()
    item.ProcedureStepProgress = str(verdict.percent)
    item.ProcedureStepProgressDescription = verdict.words[:64]
    if verdict.state is StepState.CANCELED:
        item.ProcedureStepCancellationDateTime = _datetime(now)
        item.ReasonForCancellation = verdict.words[:1024]
        reason = verdict.reason or Reason.UNSPECIFIED
        item.ProcedureStepDiscontinuationReasonCodeSequence = _code(Code(reason, "DCM", MEANINGS[reason]))
    content = Dataset()
    content.SpecificCharacterSet = "ISO_IR 192"
    content.ProcedureStepProgressInformationSequence = DicomSequence([item])
    return content


def performed(
    verdict: Verdict, code: Code, station: Code, outputs: Sequence[Output], begun: datetime, now: datetime
) -> Dataset:
    """Modification list before the end: what was performed, by whom, and every output (PS3.4 CC.2.5.1.3.2)."""
    item = Dataset()
    item.ActualHumanPerformersSequence = DicomSequence()
    item.PerformedStationNameCodeSequence = _code(station)
    item.PerformedStationClassCodeSequence = DicomSequence()
    item.PerformedStationGeographicLocationCodeSequence = DicomSequence()
    item.PerformedWorkitemCodeSequence = _code(code)
    item.PerformedProcedureStepStartDateTime = _datetime(begun)
    item.PerformedProcedureStepEndDateTime = _datetime(now)
    item.PerformedProcedureStepDescription = verdict.words[:64]
    item.PerformedProcessingParametersSequence = DicomSequence()
    item.OutputInformationSequence = DicomSequence(list(_outputs(outputs)))
    content = progress(verdict, now)
    content.UnifiedProcedureStepPerformedProcedureSequence = DicomSequence([item])
    return content


def _inputs(items: Iterable[Dataset]) -> Mapping[str, Mapping[str, Sequence[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for item in items:
        study, series = text_of(item, "StudyInstanceUID"), text_of(item, "SeriesInstanceUID")
        if study:
            instances = found.setdefault(study, {}).setdefault(series, [])
            named: Iterable[Dataset] = item.get("ReferencedSOPSequence") or ()
            instances += [uid for each in named if (uid := text_of(each, "ReferencedSOPInstanceUID"))]
    return found


def _outputs(outputs: Sequence[Output]) -> Iterable[Dataset]:
    """One item a series and place to retrieve it from."""
    grouped: dict[tuple[str, str, str], list[Output]] = {}
    for each in outputs:
        grouped.setdefault((each.study_uid, each.series_uid, each.destination_ae_title), []).append(each)
    for (study_uid, series_uid, ae_title), members in sorted(grouped.items()):
        item = Dataset()
        item.TypeOfInstances = "DICOM"
        item.StudyInstanceUID = UID(study_uid)
        item.SeriesInstanceUID = UID(series_uid)
        references = []
        for member in members:
            reference = Dataset()
            reference.ReferencedSOPClassUID = UID(member.sop_class_uid)
            reference.ReferencedSOPInstanceUID = UID(member.sop_instance_uid)
            references.append(reference)
        item.ReferencedSOPSequence = DicomSequence(references)
        if ae_title:
            source = Dataset()
            source.RetrieveAETitle = ae_title
            item.DICOMRetrievalSequence = DicomSequence([source])
        yield item


def _code(code: Code) -> Any:
    if not code.value:
        return DicomSequence()
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning or code.value
    return DicomSequence([item])


def _datetime(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S")
