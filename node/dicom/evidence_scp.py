"""What modalities and archives tell this node about a study: MPPS, Instance Availability, commitment requests.

Each message is one short transaction and one ring of the doorbell. What it says is evidence for arrival, nothing more:
forwarding an MPPS to the RIS is the router's job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import build_context, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
)
from sqlalchemy import Connection, select

from node.archive import commitment_requests, evidence
from node.archive.engine import Store
from node.archive.evidence import OPTIONAL, Statement
from node.archive.headers import UNREADABLE
from node.archive.placing import checked_uid
from node.archive.tables import objects
from node.arrival import Source, StepStatus
from node.dicom.association import PLAIN_TRANSFER_SYNTAXES
from node.dicom.commitment import references_of
from node.doorbell import SCHEDULER, ring
from node.errors import ObjectRejected, StoreUnavailable
from node.settings import EvidenceSection

logger = logging.getLogger(__name__)

# PS3.7 annex C, statuses of N-CREATE, N-SET and N-ACTION responses.
SUCCESS = 0x0000
INVALID_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
NO_SUCH_CLASS = 0x0118
MISSING_ATTRIBUTE = 0x0120
NOT_AUTHORISED = 0x0124
# PS3.4 table F.7.2-2: the step may no longer be updated.
_MAY_NOT_BE_UPDATED = 0xA710

Reply = tuple[int | Dataset, Dataset | None]


@dataclass
class Reported:
    """Instances a message names, by series; those in ``optional`` are not images and may go elsewhere."""

    named: dict[str, list[str]] = field(default_factory=dict)
    optional: dict[str, list[str]] = field(default_factory=dict)

    @property
    def stored(self) -> dict[str, list[str]]:
        """As the store keeps it."""
        return {**self.named, **{f"{OPTIONAL}{uid}": uids for uid, uids in self.optional.items()}}


def evidence_contexts(section: EvidenceSection) -> list[PresentationContext]:
    """Presentation contexts of what a site lets others tell about studies.

    In plain syntaxes only, as all but storage: the library inflates a deflated message as a whole, whatever it becomes.
    """
    wanted = []
    if section.performed_steps:
        wanted.append(build_context(ModalityPerformedProcedureStep, list(PLAIN_TRANSFER_SYNTAXES)))
    if section.notifications:
        wanted.append(build_context(InstanceAvailabilityNotification, list(PLAIN_TRANSFER_SYNTAXES)))
    return wanted


class EvidenceProvider:
    """Serves the three services for one receiver process.

    Parameters
    ----------
    section : EvidenceSection
        What is taken at all.
    store : Store
    bells : Path
        Folder of the doorbells.
    """

    def __init__(self, section: EvidenceSection, store: Store, bells: Path) -> None:
        self._section = section
        self._store = store
        self._bells = bells

    def contexts(self) -> list[PresentationContext]:
        """Presentation contexts to accept."""
        return evidence_contexts(self._section)

    def handlers(self) -> list[tuple[Any, Any]]:
        """Events and what serves them."""
        return [
            (evt.EVT_N_CREATE, lambda event: self._guarded(event, self._on_create)),
            (evt.EVT_N_SET, lambda event: self._guarded(event, self._on_set)),
            (evt.EVT_N_ACTION, lambda event: self._guarded(event, self._on_action)),
        ]

    def _guarded(self, event: evt.Event, serve: Any) -> Reply:
        """Turn what is wrong with a message, or with the store, into a status; never into a lost association."""
        request: Any = event.request
        # Who may use a service is decided with its context (PS3.7 7.1.1.1.2); the library looks at the message alone.
        named = getattr(request, "AffectedSOPClassUID", None) or getattr(request, "RequestedSOPClassUID", None)
        if named != event.context.abstract_syntax:
            return NO_SUCH_CLASS, None
        try:
            reply: Reply = serve(event)
        except ObjectRejected as error:
            logger.warning("a message about a study cannot be used: %s", error)
            return _failure(INVALID_VALUE, error.message), None
        except StoreUnavailable as error:
            logger.error("a message about a study could not be recorded: %s", error)
            return _failure(PROCESSING_FAILURE, error.summary), None
        except UNREADABLE as error:
            # pydicom decodes as late as here; whatever a peer put into its data set ends in its own status.
            logger.warning("a message about a study cannot be read: %s", type(error).__name__)
            return _failure(INVALID_VALUE, "the data set cannot be read"), None
        if reply[0] == SUCCESS:
            ring(self._bells, SCHEDULER)
        return reply

    # -- N-CREATE -----------------------------------------------------------------------------------------------------

    def _on_create(self, event: evt.Event) -> Reply:
        request: Any = event.request
        uid = str(request.AffectedSOPInstanceUID or "") or str(generate_uid(prefix=None))
        checked_uid(uid, "Affected SOP Instance UID")
        served = str(request.AffectedSOPClassUID)
        created: Dataset = event.attribute_list
        if served == ModalityPerformedProcedureStep:
            status = self._begin_step(event, uid, created)
        elif served == InstanceAvailabilityNotification:
            status = self._notified(event, uid, created)
        else:
            return NO_SUCH_CLASS, None
        if status != SUCCESS:
            return status, None
        answer = Dataset()
        answer.SOPClassUID, answer.SOPInstanceUID = served, uid
        return SUCCESS, answer

    def _begin_step(self, event: evt.Event, uid: str, step: Dataset) -> int | Dataset:
        """PS3.4 F.7.2.1: a step is created IN PROGRESS."""
        if str(step.get("PerformedProcedureStepStatus", "")) != StepStatus.IN_PROGRESS:
            return _failure(INVALID_VALUE, "a performed step begins IN PROGRESS")
        with self._store.write() as connection:
            if evidence.of_reference(connection, Source.MPPS, uid):
                return DUPLICATE_INSTANCE
            reported = _performed(step)
            for study_uid, accession in _scheduled_studies(step).items():
                statement = Statement(
                    Source.MPPS,
                    uid,
                    study_uid,
                    StepStatus.IN_PROGRESS,
                    reported.stored,
                    _caller(event),
                    accession,
                )
                evidence.state(connection, time.time(), statement)
        return SUCCESS

    def _notified(self, event: evt.Event, uid: str, notification: Dataset) -> int | Dataset:
        """PS3.4 R.3.2: what can be retrieved of one study."""
        study_uid = checked_uid(str(notification.get("StudyInstanceUID", "")), "Study Instance UID")
        reported = Reported()
        for series in notification.get("ReferencedSeriesSequence") or ():
            series_uid = checked_uid(str(series.get("SeriesInstanceUID", "")), "Series Instance UID")
            there = [
                item
                for item in series.get("ReferencedSOPSequence") or ()
                if str(item.get("InstanceAvailability", "ONLINE")) in ("ONLINE", "NEARLINE")
            ]
            for item in there:
                is_image = _is_image(str(item.get("ReferencedSOPClassUID", "")))
                kind = reported.named if is_image else reported.optional
                kind.setdefault(series_uid, []).append(str(item.ReferencedSOPInstanceUID))
        with self._store.write() as connection:
            named = _without_ours(connection, reported.stored)
            # An archive also tells of what this node made itself.
            if named:
                statement = Statement(Source.NOTIFICATION, uid, study_uid, None, named, _caller(event))
                evidence.state(connection, time.time(), statement)
        return SUCCESS

    # -- N-SET --------------------------------------------------------------------------------------------------------

    def _on_set(self, event: evt.Event) -> Reply:
        request: Any = event.request
        if str(request.RequestedSOPClassUID) != ModalityPerformedProcedureStep:
            return NO_SUCH_CLASS, None
        uid = str(request.RequestedSOPInstanceUID)
        changed: Dataset = event.modification_list
        with self._store.write() as connection:
            rows = evidence.of_reference(connection, Source.MPPS, uid)
            if not rows:
                return NO_SUCH_INSTANCE, None
            if rows[0].status != StepStatus.IN_PROGRESS:
                ended = _failure(PROCESSING_FAILURE, "the performed step may no longer be updated")
                ended.ErrorID = _MAY_NOT_BE_UPDATED
                return ended, None
            status = _status(changed, rows[0].status)
            reported = _performed(changed).stored
            for row in _concerned(connection, rows, reported):
                statement = Statement(
                    Source.MPPS,
                    uid,
                    row.study_uid,
                    status,
                    reported if row.concerned and reported else row.named,
                    _caller(event),
                    row.accession_number,
                )
                evidence.state(connection, time.time(), statement)
        return SUCCESS, None

    # -- N-ACTION -----------------------------------------------------------------------------------------------------

    def _on_action(self, event: evt.Event) -> Reply:
        """A modality asks for commitment when it has sent everything it asks about (PS3.4 J.3.2)."""
        request: Dataset = event.action_information
        transaction_uid = str(request.get("TransactionUID", ""))
        references = references_of(request)
        if not transaction_uid or not references:
            return INVALID_ARGUMENT, None
        checked_uid(transaction_uid, "Transaction UID")
        caller = _caller(event)
        answers = self._section.answers(caller)
        now = time.time()
        with self._store.write() as connection:
            self._note_commitment(
                connection, now, transaction_uid, [each.sop_instance_uid for each in references], caller
            )
            if answers:
                commitment_requests.take(
                    connection,
                    now,
                    transaction_uid=transaction_uid,
                    calling_ae_title=caller,
                    named=[(each.sop_class_uid, each.sop_instance_uid) for each in references],
                    wait_seconds=self._section.commitment_wait_seconds,
                )
        if answers:
            return SUCCESS, None
        # Noted as evidence. A requestor must not believe that anything was committed, nor wait for an answer.
        ring(self._bells, SCHEDULER)
        return _failure(NOT_AUTHORISED, "this node does not commit: ask the archive"), None

    def _note_commitment(
        self, connection: Connection, now: float, transaction_uid: str, uids: list[str], caller: str
    ) -> None:
        known = evidence.studies_of_instances(connection, uids)
        by_study: dict[str, list[str]] = {}
        for uid in uids:
            if uid in known:
                by_study.setdefault(known[uid][0], []).append(uid)
        if len(by_study) == 1:
            # What is not here yet belongs to the same study.
            by_study = {study_uid: uids for study_uid in by_study}
        for study_uid, named in by_study.items():
            statement = Statement(Source.COMMITMENT, transaction_uid, study_uid, None, {"": named}, caller)
            evidence.state(connection, now, statement)


@dataclass(frozen=True, slots=True)
class _Concerned:
    """A row of a step, and whether the step's list is about this study."""

    study_uid: str
    accession_number: str
    named: Any
    concerned: bool


def _concerned(connection: Connection, rows: list[Any], reported: dict[str, list[str]]) -> list[_Concerned]:
    """A step may stand for several studies; its list belongs to the one that its images are in."""
    uids = [uid for named in reported.values() for uid in named]
    known = {study for study, _ in evidence.studies_of_instances(connection, uids).values()} if len(rows) > 1 else set()
    return [
        _Concerned(row.study_uid, row.accession_number, row.named, not known or row.study_uid in known) for row in rows
    ]


def _performed(step: Dataset) -> Reported:
    """Performed Series Sequence (0040,0340) as UIDs by series."""
    reported = Reported()
    for series in step.get("PerformedSeriesSequence") or ():
        uid = checked_uid(str(series.get("SeriesInstanceUID", "")), "Series Instance UID")
        images = _referenced(series.get("ReferencedImageSequence") or ())
        others = _referenced(series.get("ReferencedNonImageCompositeSOPInstanceSequence") or ())
        if images:
            reported.named[uid] = images
        if others:
            reported.optional[uid] = others
    return reported


def _is_image(sop_class_uid: str) -> bool:
    """Whether instances of a class are images; of a class that nobody knows they may be."""
    name = UID(sop_class_uid).name
    return name == sop_class_uid or "Image Storage" in name


def _referenced(items: Iterable[Dataset]) -> list[str]:
    return [str(item.ReferencedSOPInstanceUID) for item in items]


def _scheduled_studies(step: Dataset) -> dict[str, str]:
    """Study Instance UID → accession number, of every scheduled step it performs (0040,0270).

    Raises
    ------
    ObjectRejected
        It names no study.
    """
    studies = {
        checked_uid(str(item.get("StudyInstanceUID", "")), "Study Instance UID"): str(item.get("AccessionNumber") or "")
        for item in step.get("ScheduledStepAttributesSequence") or ()
    }
    if not studies:
        raise ObjectRejected("a performed step names no study")
    return studies


def _status(changed: Dataset, before: str) -> StepStatus:
    said = str(changed.get("PerformedProcedureStepStatus", "") or before)
    try:
        return StepStatus(said)
    except ValueError as error:
        raise ObjectRejected("a Performed Procedure Step Status is none") from error


def _without_ours(connection: Connection, named: dict[str, list[str]]) -> dict[str, list[str]]:
    uids = [uid for of_series in named.values() for uid in of_series]
    ours: set[str] = set()
    for start in range(0, len(uids), 500):
        some = uids[start : start + 500]
        found = select(objects.c.sop_instance_uid).where(objects.c.sop_instance_uid.in_(some))
        ours.update(connection.execute(found).scalars())
    kept = {series: [uid for uid in of_series if uid not in ours] for series, of_series in named.items()}
    return {series: of_series for series, of_series in kept.items() if of_series}


def _caller(event: evt.Event) -> str:
    return str(event.assoc.requestor.ae_title).strip()


def _failure(status: int, comment: str) -> Dataset:
    response = Dataset()
    response.Status = status
    response.ErrorComment = comment[:64]
    return response
