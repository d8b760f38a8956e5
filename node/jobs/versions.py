"""Versions of a result: which earlier one a set of objects takes the place of, and what follows for its deliveries.

A later run of the same rule on the same study, and an alternative set of the same run, replace what stands at their
destinations, in the transaction that freezes them: what waits is withdrawn, and of what a destination has, or may have,
a note is filed (a *retraction*), which goes out after the new set. Runs that failed replace nothing: the earlier result
is still the best there is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from dicom_sr.identity import NodeIdentity
from node.archive import ledger
from node.archive.tables import deliveries, instances, jobs, objects
from node.delivery.delivery_rows import may_be_there, record, rows_where, set_values, withdraw_replaced
from node.delivery.delivery_states import SENT, WAITING, DeliveryState
from node.jobs import company, queue
from node.jobs.queue import JobKind, JobState, LeasedJob
from node.jobs.specification import ObjectReference, Predecessor, WrittenObject

_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)")


@dataclass
class Taken:
    """Objects of one earlier result that one or several destinations have, or may have.

    Attributes
    ----------
    job : Row
        The job that made them.
    profile : str
        Profile of the new set at these destinations.
    """

    job: Row[Any]
    profile: str
    objects: list[Row[Any]]
    destinations: list[str] = field(default_factory=list)


def predecessor(connection: Connection, job: LeasedJob, identity: NodeIdentity) -> Predecessor | None:
    """The latest earlier result of the same study and rule that stands; None where this is the first.

    Parameters
    ----------
    identity : NodeIdentity
        Its offset from UTC gives the site's wall clock.
    """
    if job.kind is not JobKind.RUN or job.shadow:
        return None
    earlier = connection.execute(
        select(jobs)
        .where(
            jobs.c.study_uid == job.study_uid,
            jobs.c.rule == job.rule,
            jobs.c.kind == JobKind.RUN,
            jobs.c.id < job.id,
            jobs.c.superseded_at.is_(None),
            ~jobs.c.shadow,
            jobs.c.id.in_(select(objects.c.job_id).where(objects.c.study_uid == job.study_uid)),
        )
        .order_by(jobs.c.id.desc())
        .limit(1)
    ).one_or_none()
    if earlier is None:
        return None
    moment = wall_clock(earlier.ended_at or 0.0, identity.timezone_offset)
    standing = {
        profile: [reference(row) for row in _standing_objects(connection, job, names)]
        for profile, names in sorted(job.specification["destinations"].items())
    }
    return earlier_result(connection, job.specification, earlier, moment).model_copy(update={"objects": standing})


def earlier_result(connection: Connection, now: Mapping[str, Any], run: Row[Any], moment: str) -> Predecessor:
    """What an earlier run came to, and which images a later one with the specification ``now`` took besides."""
    result = run.result or {}
    added, removed = _images(connection, now, run.specification)
    return Predecessor(
        job_id=run.id,
        run=run.run,
        moment=moment,
        outcome=result.get("outcome"),
        total_ml=result.get("total_ml"),
        images_added=len(added),
        images_removed=len(removed),
        series_added=_series(added),
    )


def replace(connection: Connection, now: float, job: LeasedJob, written: Sequence[WrittenObject]) -> list[Taken]:
    """Let a set that is being frozen take the place of what stands at its destinations; return what has to be told."""
    new = [each.sop_instance_uid for each in written]
    taken: list[Taken] = []
    for profile, names in sorted(job.specification["destinations"].items()):
        for name in names:
            here = company.standing_statuses(job.study_uid, name) if job.kind is JobKind.STATUS else None
            rows = rows_where(connection, *(here or _standing(job, [name])), objects.c.sop_instance_uid.not_in(new))
            reached = [row for row in rows if _replace_one(connection, now, row, by=job.id)]
            for job_id in dict.fromkeys(row.job_id for row in reached):
                _note(connection, taken, profile, name, [row for row in reached if row.job_id == job_id])
    for render in _pending_renders(connection, job):
        queue.cancel(connection, now, render)
    return taken


def has_or_may_have(connection: Connection, row: Row[Any]) -> bool:
    """Whether a destination has the object of a delivery, or may have it."""
    return row.state == DeliveryState.SENDING or row.state in SENT or may_be_there(connection, row)


def wall_clock(seconds: float, timezone_offset: str) -> str:
    """``YYYY-MM-DD HH:MM`` at a site.

    Parameters
    ----------
    seconds : float
        Since the epoch.
    timezone_offset : str
        ``&ZZXX``; empty means UTC.
    """
    match = _OFFSET.fullmatch(timezone_offset)
    offset = 0 if match is None else int(f"{match[1]}1") * (int(match[2]) * 3600 + int(match[3]) * 60)
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds + offset))


def _standing(job: LeasedJob, destinations: Sequence[str]) -> list[ColumnElement[bool]]:
    """Conditions on deliveries with their objects: results of the same study and rule that stand at destinations."""
    makers = select(jobs.c.id).where(
        jobs.c.study_uid == job.study_uid,
        jobs.c.rule == job.rule,
        jobs.c.kind != JobKind.RETRACT,
        jobs.c.superseded_at.is_(None),
    )
    return [
        deliveries.c.destination.in_(list(destinations)),
        # What was withdrawn for an alternative set may still have got there.
        deliveries.c.replaced_by.is_(None) | (deliveries.c.replaced_by == job.id),
        objects.c.job_id.in_(makers),
    ]


def _standing_objects(connection: Connection, job: LeasedJob, destinations: Sequence[str]) -> list[Row[Any]]:
    statement = (
        select(objects)
        .join(deliveries, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)
        .where(*_standing(job, destinations), objects.c.job_id != job.id)
        .distinct()
        .order_by(objects.c.role, objects.c.sop_instance_uid)
    )
    return list(connection.execute(statement))


def _replace_one(connection: Connection, now: float, row: Row[Any], *, by: int) -> bool:
    """Mark a delivery as replaced, withdraw it where it waits, and say whether the destination may have the object."""
    reached = has_or_may_have(connection, row)
    set_values(connection, row.id, replaced_by=by)
    if row.state in WAITING:
        withdraw_replaced(connection, now, row, by=by)
    record(connection, now, ledger.Kind.DELIVERY_REPLACED, row, by=by, reached=reached)
    return reached


def _note(connection: Connection, taken: list[Taken], profile: str, destination: str, rows: Sequence[Row[Any]]) -> None:
    uids = [row.sop_instance_uid for row in rows]
    for known in taken:
        if (known.job.id, known.profile) == (rows[0].job_id, profile) and uids == [
            row.sop_instance_uid for row in known.objects
        ]:
            known.destinations.append(destination)
            return
    maker = connection.execute(select(jobs).where(jobs.c.id == rows[0].job_id)).one()
    taken.append(Taken(maker, profile, list(rows), [destination]))


def _pending_renders(connection: Connection, job: LeasedJob) -> list[int]:
    """Alternative sets of earlier results that are not made yet: nobody wants them any more."""
    statement = select(jobs.c.id).where(
        jobs.c.study_uid == job.study_uid,
        jobs.c.rule == job.rule,
        jobs.c.kind == JobKind.RENDER,
        jobs.c.parent_id != (job.parent_id or job.id),
        jobs.c.state.in_([str(JobState.QUEUED), str(JobState.RUNNING)]),
    )
    return [int(number) for number in connection.execute(statement).scalars()] if job.kind is JobKind.RUN else []


def _images(
    connection: Connection, later: Mapping[str, Any], earlier: Mapping[str, Any]
) -> tuple[list[Row[Any]], list[str]]:
    """Instances a later specification takes and the earlier one did not; paths of those it was the other way round with."""
    now, before = set(later["files"]), set(earlier.get("files", ()))
    added = sorted(now - before)
    rows: list[Row[Any]] = []
    for start in range(0, len(added), 500):
        chosen = instances.c.path.in_(added[start : start + 500])
        rows += connection.execute(select(instances).where(chosen)).all()
    return rows, sorted(before - now)


def _series(rows: Iterable[Row[Any]]) -> list[str]:
    """Series Descriptions, each once, five at most."""
    named: Mapping[str, None] = dict.fromkeys(
        str(row.headers.get("series_description") or row.modality or "") for row in rows
    )
    return sorted(name for name in named if name)[:5]


def reference(row: Row[Any]) -> ObjectReference:
    return ObjectReference(
        role=row.role,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        series_uid=row.series_uid,
    )
