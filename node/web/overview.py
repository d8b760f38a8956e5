"""What the first page shows, read from the store. No patient attribute."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, select

from node.archive.tables import deliveries, instances, jobs, objects, studies
from node.delivery.delivery_states import SENT, DeliveryState
from node.jobs.queue import JobState

LATEST = 60
"""Studies heard of last that the first page looks at."""
MOST_NEEDING = 60
"""Studies that need somebody, and studies under way, that it shows."""
_FAILED_RUNS = (JobState.DEAD, JobState.FAILED)
_UNDERWAY = (JobState.QUEUED, JobState.RUNNING)
_ON_THE_WAY = (DeliveryState.QUEUED, DeliveryState.SENDING, DeliveryState.UNKNOWN, DeliveryState.FAILED)


class Stage(StrEnum):
    """Where a study stands."""

    NEEDS_SOMEBODY = "needs-somebody"
    ARRIVING = "arriving"
    RUNNING = "running"
    SENDING = "sending"
    DELIVERED = "delivered"
    NOTHING_TO_DO = "nothing-to-do"


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One study as lists show it. Times are seconds since the epoch.

    Attributes
    ----------
    jobs, deliveries : dict
        How many there are in each state; of runs the latest of each rule.
    reasons : tuple of str
        Why it needs somebody: ``held``, error codes, ``not delivered``.
    """

    study_uid: str
    accession_number: str
    state: str
    held: bool
    first_at: float
    last_at: float
    images: int
    modality: str = ""
    jobs: dict[str, int] = field(default_factory=dict)
    deliveries: dict[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def needs_somebody(self) -> bool:
        """Held, or a run or delivery was given up: nothing happens by itself any more."""
        return bool(self.reasons)

    @property
    def stage(self) -> Stage:
        """Where it stands; what needs somebody comes before everything else."""
        if self.needs_somebody:
            return Stage.NEEDS_SOMEBODY
        if self.state != "complete":
            return Stage.ARRIVING
        if self.jobs.keys() & set(map(str, _UNDERWAY)):
            return Stage.RUNNING
        if self.deliveries.keys() & set(map(str, _ON_THE_WAY)):
            return Stage.SENDING
        if self.deliveries.keys() & set(map(str, SENT)):
            return Stage.DELIVERED
        return Stage.NOTHING_TO_DO


def needing_somebody(connection: Connection, limit: int = MOST_NEEDING) -> list[str]:
    """Studies in which nothing happens by itself any more; the cost grows with what is wrong, not with what there is."""
    held = select(studies.c.study_uid).where(studies.c.held_reason.is_not(None))
    found = list(connection.execute(held.order_by(studies.c.last_at.desc()).limit(limit)).scalars())
    # Twice the limit, because several runs or deliveries of one study are one study.
    runs = select(jobs.c.study_uid).where(_given_up_run()).order_by(jobs.c.id.desc()).limit(2 * limit)
    found += connection.execute(runs).scalars()
    lost = (
        select(objects.c.study_uid)
        .join(deliveries, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)
        .where(_given_up_delivery())
        .order_by(deliveries.c.id.desc())
        .limit(2 * limit)
    )
    found += connection.execute(lost).scalars()
    return list(dict.fromkeys(found))[:limit]


def underway(connection: Connection, limit: int = MOST_NEEDING) -> list[str]:
    """Studies with a run that waits or runs, the most urgent first."""
    chosen = jobs.c.state.in_([str(state) for state in _UNDERWAY])
    statement = select(jobs.c.study_uid).where(chosen).order_by(jobs.c.priority, jobs.c.id).limit(limit)
    return list(dict.fromkeys(connection.execute(statement).scalars()))


def latest(connection: Connection, limit: int = LATEST) -> list[str]:
    """The studies that were heard of last, newest first."""
    return list(
        connection.execute(select(studies.c.study_uid).order_by(studies.c.last_at.desc()).limit(limit)).scalars()
    )


def study_lines(connection: Connection, study_uids: Collection[str]) -> list[StudyLine]:
    """Lines of studies, in the order given; those that are unknown are left out."""
    uids = list(study_uids)
    rows = {row.study_uid: row for row in connection.execute(select(studies).where(studies.c.study_uid.in_(uids)))}
    images = _images(connection, uids)
    runs = _latest_runs(connection, uids)
    sent = _deliveries(connection, uids)
    return [
        _line(rows[uid], images.get(uid, (0, "")), runs.get(uid, []), sent.get(uid, {})) for uid in uids if uid in rows
    ]


def needs_somebody_condition() -> ColumnElement[bool]:
    """Condition on studies, for lists that are filtered by it."""
    lost = (
        select(objects.c.study_uid)
        .join(deliveries, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)
        .where(_given_up_delivery())
    )
    runs = select(jobs.c.study_uid).where(_given_up_run())
    return studies.c.held_reason.is_not(None) | studies.c.study_uid.in_(runs) | studies.c.study_uid.in_(lost)


def _given_up_run() -> ColumnElement[bool]:
    """A run that was given up, and no later one of its rule has taken its place."""
    later = jobs.alias("later")
    followed = exists().where(
        later.c.study_uid == jobs.c.study_uid, later.c.rule == jobs.c.rule, later.c.id > jobs.c.id
    )
    return and_(jobs.c.state.in_([str(state) for state in _FAILED_RUNS]), jobs.c.superseded_at.is_(None), ~followed)


def _given_up_delivery() -> ColumnElement[bool]:
    return and_(deliveries.c.state == str(DeliveryState.DEAD), deliveries.c.replaced_by.is_(None))


def _images(connection: Connection, uids: list[str]) -> dict[str, tuple[int, str]]:
    """How many images there are of each study, and the modality of one."""
    counted = (
        select(instances.c.study_uid, func.count(), func.min(instances.c.id))
        .where(instances.c.study_uid.in_(uids))
        .group_by(instances.c.study_uid)
    )
    rows = connection.execute(counted).all()
    firsts = [first for _, _, first in rows]
    modalities: dict[int, str] = {
        row.id: row.modality
        for row in connection.execute(select(instances.c.id, instances.c.modality).where(instances.c.id.in_(firsts)))
    }
    return {uid: (int(count), modalities.get(first, "")) for uid, count, first in rows}


def _latest_runs(connection: Connection, uids: list[str]) -> dict[str, list[Any]]:
    """The latest run of each rule."""
    columns = (jobs.c.study_uid, jobs.c.rule, jobs.c.state, jobs.c.error_code, jobs.c.superseded_at)
    statement = select(*columns).where(jobs.c.study_uid.in_(uids)).order_by(jobs.c.id)
    newest = {(row.study_uid, row.rule): row for row in connection.execute(statement)}
    found: dict[str, list[Any]] = {}
    for (uid, _), row in newest.items():
        found.setdefault(uid, []).append(row)
    return found


def _deliveries(connection: Connection, uids: list[str]) -> dict[str, dict[str, int]]:
    """States of deliveries that were not replaced."""
    rows = connection.execute(
        select(objects.c.study_uid, deliveries.c.state, func.count())
        .join(objects, objects.c.sop_instance_uid == deliveries.c.sop_instance_uid)
        .where(objects.c.study_uid.in_(uids), deliveries.c.replaced_by.is_(None))
        .group_by(objects.c.study_uid, deliveries.c.state)
    )
    found: dict[str, dict[str, int]] = {}
    for study_uid, state, count in rows:
        found.setdefault(study_uid, {})[state] = int(count)
    return found


def _line(row: Row[Any], images: tuple[int, str], runs: Iterable[Row[Any]], sent: dict[str, int]) -> StudyLine:
    states: dict[str, int] = {}
    reasons = ["held"] if row.held_reason is not None else []
    for run in runs:
        states[run.state] = states.get(run.state, 0) + 1
        if run.state in _FAILED_RUNS and run.superseded_at is None:
            reasons.append(run.error_code or "run failed")
    if sent.get(DeliveryState.DEAD):
        reasons.append("not delivered")
    return StudyLine(
        row.study_uid,
        row.accession_number,
        row.state,
        row.held_reason is not None,
        row.first_at,
        row.last_at,
        images[0],
        images[1],
        states,
        sent,
        tuple(dict.fromkeys(reasons)),
    )
