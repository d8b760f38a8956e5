"""Versions of a result: which earlier one a set of objects takes the place of, and what follows for its deliveries.

A later run of the same rule on the same study, and an alternative set of the same run, replace what stands at their
destinations, in the transaction that freezes them: what waits is withdrawn, and of what a destination has, or may have,
a note is filed (a *retraction*), which goes out after the new set. Runs that failed replace nothing: the earlier result
is still the best there is.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from dicom_sr.identity import NodeIdentity
from node.archive import ledger
from node.archive.tables import deliveries, instances, jobs, objects
from node.delivery.delivery_rows import may_be_there, record, rows_where, set_values, with_object, withdraw_replaced
from node.delivery.delivery_states import SENT, WAITING, DeliveryState
from node.jobs import company, queue
from node.jobs.queue import JobKind, JobState, LeasedJob
from node.jobs.specification import ObjectReference, Predecessor, Retraction, WrittenObject

_SETTLING_SECONDS = 1.0
"""Until a note is written, so that what was on the wire has arrived or not."""
_TELLING = ("text", "status")
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
    return _earlier(connection, job.specification, earlier, moment).model_copy(update={"objects": standing})


def _earlier(connection: Connection, now: Mapping[str, Any], run: Row[Any], moment: str) -> Predecessor:
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


def file_retractions(
    connection: Connection,
    now: float,
    job: LeasedJob,
    taken: Sequence[Taken],
    written: Sequence[WrittenObject],
    identity: NodeIdentity,
) -> list[int]:
    """File the notes about objects that were replaced; return the jobs.

    A destination that wants it in words gets no note of its own where the new set has a text or a status object: that says
    already what it replaces.
    """
    filed = []
    # An alternative set is of the same run, and says nothing of another.
    said = () if job.kind is JobKind.RENDER else written
    for each in taken:
        section = job.specification["profiles"][each.profile]
        how = section.get("superseded", "status")
        told = _told(connection, each, said) if how == "status" else set()
        destinations = [name for name in each.destinations if name not in told]
        # A note names the patient and the study: whoever gets anonymous copies gets none.
        if how == "nothing" or not destinations or section.get("anonymous", False):
            continue
        named = f"retract {job.id} {each.job.id} {each.profile} {sorted(destinations)}"
        specification = {
            **job.specification,
            "profiles": {each.profile: section},
            "destinations": {each.profile: destinations},
            "retraction": {
                "objects": [reference(row).model_dump() for row in each.objects],
                "moment": wall_clock(each.job.ended_at or now, identity.timezone_offset),
                "run": each.job.run,
                "maker_id": each.job.id,
            },
        }
        number = queue.enqueue(
            connection,
            now,
            study_uid=job.study_uid,
            rule=job.rule,
            model_id=job.model_id,
            input_key=hashlib.sha256(named.encode()).hexdigest(),
            priority=job.priority,
            maximum_attempts=job.maximum_attempts,
            specification=specification,
            shadow=False,
            run=job.run,
            kind=JobKind.RETRACT,
            parent_id=job.id,
            not_before=now + _SETTLING_SECONDS,
        )
        filed += [number] if number is not None else []
    return filed


def _told(connection: Connection, taken: Taken, said: Sequence[WrittenObject]) -> set[str]:
    """Destinations that get a text or a status of the new set: not where that was held back for a combined status."""
    uids = [
        each.sop_instance_uid
        for each in said
        if each.profile == taken.profile and each.role.partition("-")[0] in _TELLING
    ]
    statement = select(deliveries.c.destination).where(
        deliveries.c.sop_instance_uid.in_(uids), deliveries.c.replaced_by.is_(None)
    )
    return set(connection.execute(statement).scalars())


def still_to_retract(connection: Connection, job: LeasedJob) -> Retraction:
    """What a note is about: of the objects it was filed for, those that its destinations have, or may have."""
    retraction = Retraction.model_validate(job.specification["retraction"])
    names = [name for those in job.specification["destinations"].values() for name in those]
    uids = [each.sop_instance_uid for each in retraction.objects]
    # Nothing is locked: this only looks.
    chosen = with_object().where(deliveries.c.destination.in_(names), deliveries.c.sop_instance_uid.in_(uids))
    rows = connection.execute(chosen).all()
    there = {row.sop_instance_uid for row in rows if _has_or_may_have(connection, row)}
    objects_there = [each for each in retraction.objects if each.sop_instance_uid in there]
    return retraction.model_copy(update={"objects": objects_there, **_change(connection, job, retraction)})


def _change(connection: Connection, job: LeasedJob, retraction: Retraction) -> dict[str, Any]:
    """What a note says of the result that stands now, beside the earlier one."""
    earlier, later = (_run_of(connection, number) for number in (retraction.maker_id, job.parent_id))
    if earlier is None or later is None:
        return {}
    if earlier.id == later.id:
        return {"is_same_run": True}
    result = later.result or {}
    return {
        "earlier": _earlier(connection, later.specification, earlier, retraction.moment),
        "outcome": result.get("outcome"),
        "total_ml": result.get("total_ml"),
    }


def _run_of(connection: Connection, number: int | None) -> Row[Any] | None:
    """The run whose result a job wrote; None where it wrote a status of several."""
    row = connection.execute(select(jobs).where(jobs.c.id == number)).one_or_none() if number is not None else None
    if row is None or row.kind == JobKind.RUN:
        return row
    return _run_of(connection, row.parent_id) if row.kind == JobKind.RENDER else None


def _has_or_may_have(connection: Connection, row: Row[Any]) -> bool:
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
    reached = _has_or_may_have(connection, row)
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
