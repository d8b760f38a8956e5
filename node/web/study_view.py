"""One study, with everything that is known of it. No patient attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, true

from node.archive.story import story
from node.archive.tables import instances, objects, studies
from node.delivery import outbox
from node.errors import NotStored
from node.jobs import queue
from node.jobs.queue import JobState
from node.web.overview import StudyLine, study_lines
from node.why import readable, words_of

_LOUD = ("failed", "dead", "held", "corrected", "outdated", "conflict", "refused", "unheard", "unusable", "expired")


@dataclass(frozen=True, slots=True)
class Told:
    """One event in words.

    Attributes
    ----------
    loud : bool
        Something that went wrong, or that somebody should know.
    """

    at: float
    kind: str
    head: str
    rest: tuple[str, ...]
    loud: bool


@dataclass(frozen=True, slots=True)
class Series:
    """A series of the study as it was received."""

    series_uid: str
    modality: str
    images: int
    ours: bool


@dataclass(frozen=True, slots=True)
class StudyView:
    """Everything a page about a study shows."""

    line: StudyLine
    held_reason: str
    series: tuple[Series, ...]
    runs: Sequence[Row[Any]]
    objects: Sequence[Row[Any]]
    deliveries: Sequence[Row[Any]]
    events: tuple[Told, ...]


def study_view(connection: Connection, study_uid: str) -> StudyView:
    """Read a study.

    Raises
    ------
    NotStored
        Nothing is known of it.
    """
    events = told(connection, study_uid)
    lines = study_lines(connection, [study_uid])
    held = connection.execute(
        select(studies.c.held_reason).where(studies.c.study_uid == study_uid)
    ).scalar_one_or_none()
    frozen = select(objects).where(objects.c.study_uid == study_uid).order_by(objects.c.job_id, objects.c.role)
    return StudyView(
        lines[0] if lines else StudyLine(study_uid, "", "unknown", False, 0.0, 0.0, 0),
        held or "",
        _series(connection, study_uid),
        queue.list_jobs(connection, study_uid=study_uid),
        connection.execute(frozen).all(),
        outbox.list_deliveries(connection, study_uid=study_uid, limit=500),
        events,
    )


def told(connection: Connection, study_uid: str) -> tuple[Told, ...]:
    """The story of one study, in order of time.

    Raises
    ------
    NotStored
        Nothing is known of it.
    """
    facts = [fact for fact in story(connection, study_uid) if fact.study_uid in (None, study_uid)]
    if not facts:
        raise NotStored("there is no such study")
    found = []
    for fact in readable(facts):
        head, *rest = words_of(fact)
        loud = fact.kind.rsplit(".", 1)[-1] in _LOUD or not fact.detail.get("passed", True)
        found.append(Told(fact.at, fact.kind, head, tuple(rest), loud))
    return tuple(found)


def may_retry(run: Row[Any]) -> bool:
    """Whether trying a run again can be asked for; its rules decide in the end."""
    return run.superseded_at is None and run.state in (JobState.FAILED, JobState.DEAD, JobState.CANCELLED)


def may_cancel(run: Row[Any]) -> bool:
    """Whether a run has anything left to cancel."""
    return run.state in (JobState.QUEUED, JobState.RUNNING)


def _series(connection: Connection, study_uid: str) -> tuple[Series, ...]:
    rows = connection.execute(
        select(instances.c.series_uid, instances.c.modality, instances.c.ours, func.count(), func.min(instances.c.id))
        .where(instances.c.study_uid == study_uid, instances.c.active == true())
        .group_by(instances.c.series_uid, instances.c.modality, instances.c.ours)
        .order_by(func.min(instances.c.id))
    )
    return tuple(Series(uid, modality, int(count), bool(ours)) for uid, modality, ours, count, _ in rows)
