"""What people made of our results: a rejection note, an edited copy, a verified report that names one of ours.

Each is an assessment by a reader: stored, counted, and the object concerned is never sent again. It is no image, so no run
starts from it. Nothing here changes a result; a new one is made only when somebody asks for it (``ainode retry JOB``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from sqlalchemy import Connection, Row, func, select, true

from node.archive import ledger
from node.archive.engine import Store
from node.archive.spool import dataset_digest
from node.archive.tables import assessments, instances, jobs, objects
from node.archive.upsert import insert_missing
from node.delivery.assessed import assessed
from node.delivery.delivery_rows import rows_where, withdraw_assessed
from node.delivery.delivery_states import WAITING
from node.errors import NotStored
from node.jobs import queue
from node.jobs.queue import JobKind, JobState

_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
REJECTIONS = frozenset({"113001", "113037", "113038", "113039"})
"""Titles of CID 7010 (DCM) by which IHE IOCM rejects objects."""
_UNREADABLE = (OSError, InvalidDicomError, AttributeError, KeyError, IndexError, TypeError, ValueError, EOFError)


class AssessmentKind(StrEnum):
    """What somebody did with an object of ours."""

    REJECTED = "rejected"
    EDITED = "edited"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Assessment:
    """One object of ours, and what was done with it."""

    kind: AssessmentKind
    sop_instance_uid: str
    reason: str = ""


def note(store: Store, now: float, study_uid: str, data_dir: Path) -> int:
    """Look at what came back into a study and note every assessment; return how many were news.

    Files are read outside of any transaction.
    """
    with store.read() as connection:
        ours = {
            row.sop_instance_uid: row
            for row in connection.execute(select(objects).where(objects.c.study_uid == study_uid))
        }
        rows = _candidates(connection, study_uid) if ours else []
    if not rows:
        return 0
    found = [(row, each) for row in rows for each in _read(row, data_dir, ours)]
    if not found:
        return 0
    with store.write() as connection:
        return sum(_enter(connection, now, row, each) for row, each in found)


def sources(connection: Connection, study_uid: str) -> set[str]:
    """SOP Instance UIDs of what assessed results of a study: not images to run on."""
    statement = (
        select(assessments.c.source_uid)
        .join(objects, objects.c.sop_instance_uid == assessments.c.sop_instance_uid)
        .where(objects.c.study_uid == study_uid)
    )
    return set(connection.execute(statement).scalars())


def repeat(connection: Connection, now: float, job_id: int) -> int | None:
    """Queue a run whose result was rejected or edited once more, as run n+1; None where it was not.

    It takes what the latest run of the study took: images that came later stay in.

    Raises
    ------
    NotStored
        There is no such job.
    """
    job = queue.get(connection, job_id)
    if job is None:
        raise NotStored(f"there is no job {job_id}")
    made = select(objects.c.sop_instance_uid).where(objects.c.job_id == job_id)
    if job.state != JobState.DONE or not assessed(connection, list(connection.execute(made).scalars())):
        return None
    same = (jobs.c.study_uid == job.study_uid) & (jobs.c.rule == job.rule)
    last = connection.execute(select(func.max(jobs.c.run)).where(same)).scalar_one()
    runs = select(jobs).where(same, jobs.c.kind == JobKind.RUN, jobs.c.superseded_at.is_(None))
    job = connection.execute(runs.order_by(jobs.c.id.desc()).limit(1)).one()
    return queue.enqueue(
        connection,
        now,
        study_uid=job.study_uid,
        rule=job.rule,
        model_id=job.model_id,
        input_key=job.input_key,
        priority=queue.Priority(job.priority),
        maximum_attempts=job.maximum_attempts,
        specification=job.specification,
        shadow=job.shadow,
        run=last + 1,
    )


def listed(connection: Connection, *, limit: int = 100) -> list[Row[Any]]:
    """Assessments with their objects, the latest first."""
    columns = (objects.c.study_uid, objects.c.job_id, objects.c.role)
    statement = select(assessments, *columns).join(
        objects, objects.c.sop_instance_uid == assessments.c.sop_instance_uid
    )
    return list(connection.execute(statement.order_by(assessments.c.id.desc()).limit(limit)))


def counted(connection: Connection) -> dict[str, int]:
    """How many objects were assessed in each way."""
    statement = select(assessments.c.kind, func.count(assessments.c.sop_instance_uid.distinct())).group_by(
        assessments.c.kind
    )
    return {str(kind): int(count) for kind, count in connection.execute(statement.order_by(assessments.c.kind))}


def _candidates(connection: Connection, study_uid: str) -> list[Row[Any]]:
    """Documents and segmentations of others, and copies of our own, that nothing is noted about yet."""
    kinds = instances.c.sop_class_uid.like(f"{_REPORTS}%") | instances.c.sop_class_uid.in_(_SEGMENTATIONS)
    noted = select(assessments.c.source_uid).where(assessments.c.source_uid == instances.c.sop_instance_uid)
    statement = select(instances).where(
        instances.c.study_uid == study_uid, instances.c.ours | ((instances.c.active == true()) & kinds), ~noted.exists()
    )
    return list(connection.execute(statement.order_by(instances.c.id)))


def _read(row: Row[Any], data_dir: Path, ours: dict[str, Row[Any]]) -> Iterator[Assessment]:
    path = data_dir / "spool" / row.path
    try:
        if row.sop_instance_uid in ours:
            if _is_other(row, data_dir / "outbox" / ours[row.sop_instance_uid].path, ours[row.sop_instance_uid]):
                yield Assessment(AssessmentKind.EDITED, row.sop_instance_uid)
            return
        yield from (each for each in judged(dcmread(path, stop_before_pixels=True)) if each.sop_instance_uid in ours)
    except _UNREADABLE:
        # What cannot be read says nothing; it lies in the spool all the same.
        return


def _is_other(row: Row[Any], frozen: Path, made: Row[Any]) -> bool:
    """Whether a copy of an object of ours has another content; not said where it came in another transfer syntax."""
    if row.transfer_syntax_uid != made.transfer_syntax_uid or not frozen.is_file():
        return False
    return bool(dataset_digest(frozen) != row.digest)


def judged(dataset: Dataset) -> Iterator[Assessment]:
    """What a document says about other objects."""
    sop_class = str(dataset.SOPClassUID)
    if sop_class == _KEY_OBJECTS:
        title = dataset.ConceptNameCodeSequence[0]
        if str(title.CodeValue) in REJECTIONS and title.CodingSchemeDesignator == "DCM":
            reason = f"{title.CodeValue} {title.CodingSchemeDesignator}"
            evidence = dataset.get("CurrentRequestedProcedureEvidenceSequence", [])
            yield from (Assessment(AssessmentKind.REJECTED, uid, reason) for uid in _named(evidence))
    elif sop_class.startswith(_REPORTS):
        verified = dataset.get("VerificationFlag") == "VERIFIED"
        kind = AssessmentKind.VERIFIED if verified else AssessmentKind.EDITED
        yield from (Assessment(kind, uid) for uid in _named(dataset.get("PredecessorDocumentsSequence", [])))
    elif sop_class in _SEGMENTATIONS:
        for series in dataset.get("ReferencedSeriesSequence", []):
            for reference in series.get("ReferencedInstanceSequence", []):
                if str(reference.ReferencedSOPClassUID) in _SEGMENTATIONS:
                    yield Assessment(AssessmentKind.EDITED, str(reference.ReferencedSOPInstanceUID))


def _named(hierarchy: Any) -> Iterator[str]:
    """SOP Instance UIDs of a hierarchical reference (PS3.3 C.17.2.1)."""
    for study in hierarchy:
        for series in study.get("ReferencedSeriesSequence", []):
            for reference in series.get("ReferencedSOPSequence", []):
                yield str(reference.ReferencedSOPInstanceUID)


def _enter(connection: Connection, now: float, row: Row[Any], assessment: Assessment) -> int:
    facts = {
        "kind": str(assessment.kind),
        "sop_instance_uid": assessment.sop_instance_uid,
        "source_uid": row.sop_instance_uid,
    }
    more = {
        "at": now,
        "source_path": row.path,
        "calling_ae_title": row.calling_ae_title,
        "reason": assessment.reason[:64],
    }
    if insert_missing(connection, assessments, {**facts, **more}, unique=list(facts)) is None:
        return 0
    made = connection.execute(select(objects).where(objects.c.sop_instance_uid == assessment.sop_instance_uid)).one()
    ledger.record(
        connection,
        now,
        ledger.Kind.RESULT_ASSESSED,
        study_uid=made.study_uid,
        job_id=made.job_id,
        sop_instance_uid=made.sop_instance_uid,
        role=made.role,
        assessment=str(assessment.kind),
        source=row.sop_instance_uid,
        reason=assessment.reason,
        calling_ae_title=row.calling_ae_title,
    )
    for delivery in rows_where(connection, objects.c.sop_instance_uid == made.sop_instance_uid):
        if delivery.state in WAITING:
            withdraw_assessed(connection, now, delivery)
    return 1
