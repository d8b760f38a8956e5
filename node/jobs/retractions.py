"""Notes about earlier results: filed with the set that takes their place, for whoever has them or may have them.

What a note says is put together when it starts: which objects are really there, and what is different now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from dicom_sr.identity import NodeIdentity
from node.archive.tables import deliveries, jobs
from node.delivery import capabilities
from node.delivery.delivery_rows import with_object
from node.delivery.variants import in_words
from node.jobs import queue
from node.jobs.queue import JobKind, LeasedJob
from node.jobs.specification import Retraction, WrittenObject
from node.jobs.versions import Taken, earlier_result, has_or_may_have, reference, wall_clock
from node.settings import ProfileSection

_SETTLING_SECONDS = 1.0
"""Until a note is written, so that what was on the wire has arrived or not."""
_TELLING = ("text", "status")


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
        configured = ProfileSection.model_validate(job.specification["profiles"][each.profile])
        if configured.anonymous:
            continue  # a note names the patient and the study
        for section, names in _as_taken(connection, configured, each.destinations):
            told = _told(connection, each, said) if section.superseded == "status" else set()
            destinations = [name for name in names if name not in told]
            if section.superseded != "nothing" and destinations:
                number = _file_note(connection, now, job, each, section, destinations, identity)
                filed += [number] if number is not None else []
    return filed


def _as_taken(
    connection: Connection, section: ProfileSection, destinations: Sequence[str]
) -> list[tuple[ProfileSection, list[str]]]:
    """The destinations by how they are told: a rejection is for those that are not known to take none."""
    by_way: dict[str, tuple[ProfileSection, list[str]]] = {}
    for name in destinations:
        chosen = in_words(section, capabilities.of(connection, name))
        by_way.setdefault(chosen.superseded, (chosen, []))[1].append(name)
    return list(by_way.values())


def _file_note(
    connection: Connection,
    now: float,
    job: LeasedJob,
    taken: Taken,
    section: ProfileSection,
    destinations: Sequence[str],
    identity: NodeIdentity,
) -> int | None:
    named = f"retract {job.id} {taken.job.id} {taken.profile} {sorted(destinations)}"
    specification = {
        **job.specification,
        "profiles": {taken.profile: section.model_dump(mode="json")},
        "destinations": {taken.profile: destinations},
        "retraction": {
            "objects": [reference(row).model_dump() for row in taken.objects],
            "moment": wall_clock(taken.job.ended_at or now, identity.timezone_offset),
            "run": taken.job.run,
            "maker_id": taken.job.id,
        },
    }
    return queue.enqueue(
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
    there = {row.sop_instance_uid for row in rows if has_or_may_have(connection, row)}
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
        "earlier": earlier_result(connection, later.specification, earlier, retraction.moment),
        "outcome": result.get("outcome"),
        "total_ml": result.get("total_ml"),
    }


def _run_of(connection: Connection, number: int | None) -> Row[Any] | None:
    """The run whose result a job wrote; None where it wrote a status of several."""
    row = connection.execute(select(jobs).where(jobs.c.id == number)).one_or_none() if number is not None else None
    if row is None or row.kind == JobKind.RUN:
        return row
    return _run_of(connection, row.parent_id) if row.kind == JobKind.RENDER else None
