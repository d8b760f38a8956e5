"""What a correction of identity does to the runs and deliveries that stem from the copy it replaces.

All of it happens in the transaction that enters the corrected instance: from its commit on no dispatcher freezes a
result of such a run, and no sender takes one from the outbox. What a destination has already is not touched, because
nothing with an old identity is sent any more, not even to take something back: it is told, and a person deals with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from node.archive import ledger
from node.archive.tables import deliveries, jobs, objects
from node.delivery.delivery_rows import mark_outdated, may_be_there, rows_where, with_object, withdraw
from node.delivery.delivery_states import SENT, WAITING, Outdated
from node.jobs import queue, status_jobs


@dataclass(frozen=True, slots=True)
class OutdatedStudy:
    """Deliveries of one study whose destination has, or may have, an old identity."""

    study_uid: str
    deliveries: int


def take_back(connection: Connection, now: float, *, study_uid: str, path: str, changed: list[str]) -> list[int]:
    """Stop every run of a study that took the file ``path``, and whatever of it waits; return the runs' numbers.

    Parameters
    ----------
    study_uid : str
        The study the replaced copy belonged to.
    path : str
        The replaced copy, relative to the spool.
    changed : list of str
        Names of the attributes corrected.
    """
    standing = select(jobs).where(jobs.c.study_uid == study_uid, jobs.c.superseded_at.is_(None)).order_by(jobs.c.id)
    taken = []
    for job in connection.execute(standing.with_for_update()).all():
        if path in job.specification.get("files", ()):
            _supersede(connection, now, job, changed)
            taken.append(int(job.id))
    for job_id in taken:
        # Held back for a status that does not come now, by runs that took none of the corrected images.
        status_jobs.release(connection, now, job_id, why="superseded")
    return taken


def take_back_all(connection: Connection, now: float, *, study_uid: str, changed: list[str]) -> list[int]:
    """Stop every run of a study, and whatever of it waits; return the runs' numbers."""
    standing = select(jobs).where(jobs.c.study_uid == study_uid, jobs.c.superseded_at.is_(None)).order_by(jobs.c.id)
    taken = connection.execute(standing.with_for_update()).all()
    for job in taken:
        _supersede(connection, now, job, changed)
    return [int(job.id) for job in taken]


def outdated_studies(connection: Connection) -> list[OutdatedStudy]:
    """Studies of which a destination has, or may have, results with an old identity, that nobody has dealt with."""
    rows = connection.execute(
        select(objects.c.study_uid, func.count())
        .join(deliveries, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)
        .where(deliveries.c.outdated == Outdated.OPEN)
        .group_by(objects.c.study_uid)
        .order_by(objects.c.study_uid)
    )
    return [OutdatedStudy(study_uid, int(count)) for study_uid, count in rows]


def outdated_deliveries(connection: Connection, *, study_uid: str | None = None) -> list[Row[Any]]:
    """Deliveries with their objects that need a person, oldest first."""
    statement = with_object().where(deliveries.c.outdated == Outdated.OPEN).order_by(deliveries.c.id)
    if study_uid is not None:
        statement = statement.where(objects.c.study_uid == study_uid)
    return list(connection.execute(statement))


def settle(connection: Connection, now: float, study_uid: str) -> int:
    """Note that a person has dealt with what destinations have of a study; return how many deliveries that were."""
    rows = rows_where(connection, deliveries.c.outdated == Outdated.OPEN, objects.c.study_uid == study_uid)
    for row in rows:
        chosen = deliveries.c.id == row.id
        connection.execute(update(deliveries).where(chosen).values(outdated=str(Outdated.SETTLED)))
        facts = {"delivery": row.id, "destination": row.destination, "role": row.role}
        ledger.record(
            connection,
            now,
            ledger.Kind.DELIVERY_SETTLED,
            study_uid=row.study_uid,
            job_id=row.job_id,
            sop_instance_uid=row.sop_instance_uid,
            **facts,
        )
    return len(rows)


def _supersede(connection: Connection, now: float, job: Row[Any], changed: list[str]) -> None:
    if job.state in (queue.JobState.QUEUED, queue.JobState.RUNNING):
        queue.cancel(connection, now, job.id)
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(superseded_at=now))
    facts = {"state": job.state, "run": job.run, "changed": changed}
    ledger.record(connection, now, ledger.Kind.JOB_SUPERSEDED, study_uid=job.study_uid, job_id=job.id, **facts)
    # Those on the wire are left to their sender, which looks at the run before it sends and after it has sent.
    for row in rows_where(connection, objects.c.job_id == job.id):
        if row.state in WAITING:
            withdraw(connection, now, row, reached=may_be_there(connection, row))
        elif row.state in SENT or may_be_there(connection, row):
            mark_outdated(connection, now, row)
