"""Modality Worklist as a user: what is scheduled (PS3.4 K.6)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from node.archive.headers import UNREADABLE
from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.query import find
from node.orders import Code, Order
from node.settings import WorklistSection
from node.site_time import seconds_of

logger = logging.getLogger(__name__)

WORKLIST_SOP_CLASS = str(ModalityWorklistInformationFind)
WORKLIST_PROPOSAL = Proposal(WORKLIST_SOP_CLASS)
_CHARACTER_SETS: dict[str, str | list[str]] = {
    "utf-8": "ISO_IR 192",
    "iso-2022-jp": ["", "ISO 2022 IR 87", "ISO 2022 IR 13"],
    "latin-1": "ISO_IR 100",
    "ascii": "",
}
# PS3.4 table K.6-1: return keys of the requested procedure, order and patient …
_KEYS = (
    *("AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID", "IssuerOfPatientID"),
    *("PatientBirthDate", "PatientSex", "StudyInstanceUID", "RequestedProcedureDescription", "RequestedProcedureID"),
    *("RequestedProcedurePriority", "ReasonForTheRequestedProcedure"),
    *("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
)
# … and of the scheduled step.
_STEP_KEYS = (
    *("Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"),
    *("ScheduledPerformingPhysicianName", "ScheduledProcedureStepDescription", "ScheduledProcedureStepID"),
    *("ScheduledStationName", "ScheduledProcedureStepStatus"),
)
_NARROWEST = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Worklist:
    """What a worklist named.

    Attributes
    ----------
    truncated : int
        Spans of time of which it had more than could be fetched.
    """

    orders: tuple[Order, ...]
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """Filters of one query; empty for any."""

    modality: str
    station_ae_title: str


def peer_of(section: WorklistSection, own_ae_title: str) -> Peer:
    """The peer that a ``[worklist.NAME]`` section describes."""
    return Peer(
        ae_title=section.ae_title,
        host=section.host,
        port=section.port,
        calling_ae_title=section.calling_ae_title or own_ae_title,
        connect_timeout_seconds=section.connect_timeout_seconds,
        response_timeout_seconds=section.response_timeout_seconds,
    )


def scheduled(association: ClientAssociation, section: WorklistSection, since: datetime, until: datetime) -> Worklist:
    """Everything that is to start within a time, by the site's wall clock.

    A worklist with more entries than ``maximum_entries`` is cancelled and asked again in halves of the time.

    Raises
    ------
    NoPresentationContext
        The peer offers no worklist.
    PeerBusy, NoResponse
        The query failed, or was not answered to the end.
    """
    found: dict[str, Order] = {}
    truncated = 0
    for modality in section.modalities or [""]:
        for station in section.station_ae_titles or [""]:
            datasets, lost = _within(association, section, _Asked(modality, station), since, until)
            truncated += lost
            for order in read_orders(datasets):
                if order.starts_at is None or since.timestamp() <= order.starts_at <= until.timestamp():
                    found[repr(order)] = order
    return Worklist(tuple(found.values()), truncated)


def _within(
    association: ClientAssociation,
    section: WorklistSection,
    asked: _Asked,
    since: datetime,
    until: datetime,
) -> tuple[list[Dataset], int]:
    query = worklist_query(section, asked.modality, asked.station_ae_title, since, until)
    matches = find(association, query, model=WORKLIST_SOP_CLASS, limit=section.maximum_entries)
    if len(matches) <= section.maximum_entries:
        return matches, 0
    if until - since <= _NARROWEST:
        return matches[: section.maximum_entries], 1
    kept: list[Dataset] = []
    lost = 0
    for first, last in _halves(since, until):
        more, missed = _within(association, section, asked, first, last)
        kept += more
        lost += missed
    return kept, lost


def _halves(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Date and time match on their own (PS3.4 K.2.2.2), so a span of time must not cross midnight."""
    midnight = (since + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    middle = midnight if midnight < until else since + (until - since) / 2
    yield since, middle - timedelta(seconds=1)
    yield middle, until


def worklist_query(section: WorklistSection, modality: str, station: str, since: datetime, until: datetime) -> Dataset:
    """Identifier of one C-FIND: the filters and every key wanted, empty."""
    query = Dataset()
    if charset := _CHARACTER_SETS[section.character_set]:
        query.SpecificCharacterSet = charset
    for keyword in _KEYS:
        setattr(query, keyword, "")
    query.RequestedProcedureCodeSequence = DicomSequence()
    step = Dataset()
    for keyword in _STEP_KEYS:
        setattr(step, keyword, "")
    step.ScheduledProtocolCodeSequence = DicomSequence()
    step.Modality = modality
    step.ScheduledStationAETitle = station
    first, last = since.strftime("%Y%m%d"), until.strftime("%Y%m%d")
    step.ScheduledProcedureStepStartDate = f"{first}-{last}"
    if first == last:
        step.ScheduledProcedureStepStartTime = f"{since:%H%M%S}-{until:%H%M%S}"
    query.ScheduledProcedureStepSequence = DicomSequence([step])
    return query


def read_orders(datasets: Iterable[Dataset]) -> list[Order]:
    """Every entry that can be read; one that breaks every rule costs itself and a line in the log."""
    found = []
    for dataset in datasets:
        try:
            found.append(read_order(dataset))
        except UNREADABLE as error:
            logger.warning("a worklist entry cannot be read: %s", type(error).__name__)
    return found


def read_order(found: Dataset) -> Order:
    """One worklist entry as a typed order; what is missing or unreadable is empty."""
    steps: Sequence[Dataset] = found.get("ScheduledProcedureStepSequence") or ()
    step = next(iter(steps), Dataset())
    return Order(
        study_uid=text_of(found, "StudyInstanceUID"),
        accession_number=text_of(found, "AccessionNumber"),
        patient_id=text_of(found, "PatientID"),
        issuer_of_patient_id=text_of(found, "IssuerOfPatientID"),
        patient_name=text_of(found, "PatientName"),
        patient_birth_date=text_of(found, "PatientBirthDate"),
        patient_sex=text_of(found, "PatientSex"),
        modality=text_of(step, "Modality"),
        station_ae_title=text_of(step, "ScheduledStationAETitle"),
        station_name=text_of(step, "ScheduledStationName"),
        starts_at=seconds_of(
            text_of(step, "ScheduledProcedureStepStartDate"), text_of(step, "ScheduledProcedureStepStartTime")
        ),
        step_id=text_of(step, "ScheduledProcedureStepID"),
        step_description=text_of(step, "ScheduledProcedureStepDescription"),
        step_status=text_of(step, "ScheduledProcedureStepStatus"),
        protocol_codes=codes_of(step, "ScheduledProtocolCodeSequence"),
        requested_procedure_id=text_of(found, "RequestedProcedureID"),
        requested_procedure_description=text_of(found, "RequestedProcedureDescription"),
        procedure_codes=codes_of(found, "RequestedProcedureCodeSequence"),
        reason=text_of(found, "ReasonForTheRequestedProcedure"),
        priority=text_of(found, "RequestedProcedurePriority").upper(),
        placer_order_number=text_of(found, "PlacerOrderNumberImagingServiceRequest"),
        filler_order_number=text_of(found, "FillerOrderNumberImagingServiceRequest"),
    )


def text_of(dataset: Dataset, keyword: str) -> str:
    """First value of an attribute as Unicode text that any database takes; empty where it is missing or unreadable."""
    try:
        value = dataset.get(keyword)
        text = "" if value is None else str(value)
    except UNREADABLE:
        logger.warning("a worklist entry has an unreadable %s", keyword)
        return ""
    # What no database takes: NUL, control characters, half surrogates.
    printable = "".join(character for character in text if character >= " " and not "\x7f" <= character <= "\x9f")
    return printable.encode("utf-8", "replace").decode("utf-8").strip()


def codes_of(dataset: Dataset, keyword: str) -> tuple[Code, ...]:
    """Items of a code sequence (PS3.3 table 8.8-1) that have a value."""
    items: Sequence[Dataset] = dataset.get(keyword) or ()
    codes = (
        Code(text_of(item, "CodeValue"), text_of(item, "CodingSchemeDesignator"), text_of(item, "CodeMeaning"))
        for item in items
    )
    return tuple(code for code in codes if code.value)
