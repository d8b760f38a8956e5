"""Which runs of a study answer a destination, and which status objects stand there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, select

from dicom_sr.rendering import SUPERSEDED
from node.archive.tables import deliveries, jobs, objects
from node.jobs.queue import JobKind, JobState
from node.jobs.specification import WrittenObject

ENDED = (JobState.DONE, JobState.FAILED, JobState.DEAD)
OPEN = (JobState.QUEUED, JobState.RUNNING)
_STATUS, _PICTURE = "status", "summary"


def company(connection: Connection, study_uid: str, destination: str) -> list[Row[Any]]:
    """Runs whose answers for a destination count now, oldest first.

    Of each rule it is the latest run with a result, and a later one that failed: that replaces nothing. Where none has
    ended it is the one that is still open. Shadow runs, cancelled ones, and those that a correction took back are left out.
    """
    statement = select(jobs).where(
        jobs.c.study_uid == study_uid,
        jobs.c.kind == JobKind.RUN,
        ~jobs.c.shadow,
        jobs.c.superseded_at.is_(None),
        jobs.c.state != JobState.CANCELLED,
    )
    by_rule: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(statement.order_by(jobs.c.id)):
        if _goes_to(connection, row, destination):
            by_rule.setdefault(row.rule, []).append(row)
    return sorted((row for runs in by_rule.values() for row in _current(runs)), key=lambda row: int(row.id))


def _current(runs: list[Row[Any]]) -> list[Row[Any]]:
    done = next((row for row in reversed(runs) if row.state == JobState.DONE), None)
    failed = next((row for row in reversed(runs) if row.state in (JobState.FAILED, JobState.DEAD)), None)
    if done is not None and failed is not None and failed.id < done.id:
        failed = None
    return [row for row in (done, failed) if row is not None] or runs[-1:]


def _goes_to(connection: Connection, run: Row[Any], destination: str) -> bool:
    """Whether a run's rule names a destination, or a rule of who is told has added it for the run's result."""
    if any(destination in names for names in run.specification["destinations"].values()):
        return True
    sent = exists().where(
        objects.c.job_id == run.id,
        deliveries.c.sop_instance_uid == objects.c.sop_instance_uid,
        deliveries.c.destination == destination,
    )
    return bool(connection.execute(select(sent)).scalar())


def is_status(role: str) -> bool:
    """Whether an object of that role says what the AI did. A note that an earlier result is void does not."""
    return role.partition("-")[0] == _STATUS and not role.startswith(SUPERSEDED)


def statuses_of(written: Iterable[WrittenObject], profile: str) -> list[WrittenObject]:
    """The status objects of a profile's set, and the picture that goes with them; empty where the set is a result."""
    made = [each for each in written if each.profile == profile]
    if not any(is_status(each.role) for each in made):
        return []
    return [each for each in made if is_status(each.role) or each.role == _PICTURE]


def standing_statuses(study_uid: str, destination: str) -> list[ColumnElement[bool]]:
    """Conditions on deliveries with their objects: status objects of a study that nothing has taken the place of."""
    makers = select(jobs.c.id).where(
        jobs.c.study_uid == study_uid, jobs.c.kind != JobKind.RETRACT, jobs.c.superseded_at.is_(None)
    )
    beside = objects.alias("beside")
    with_status = exists().where(
        beside.c.job_id == objects.c.job_id, beside.c.profile == objects.c.profile, _says_status(beside)
    )
    return [
        deliveries.c.destination == destination,
        deliveries.c.replaced_by.is_(None),
        objects.c.job_id.in_(makers),
        _says_status(objects) | ((objects.c.role == _PICTURE) & with_status),
    ]


def _says_status(table: Any) -> ColumnElement[bool]:
    note = table.c.role.startswith(SUPERSEDED, autoescape=True)
    told: ColumnElement[bool] = ((table.c.role == _STATUS) | table.c.role.startswith(f"{_STATUS}-")) & ~note
    return told
