"""What happened to a study since arrival last looked at it, gathered from the index as events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, true

from node import ordering
from node.archive import evidence, history, index
from node.archive.tables import associations, instances
from node.arrival import (
    AssociationEnded,
    Corrected,
    Event,
    InstanceStored,
    Instant,
    Listed,
    PerformedStep,
    Phase,
    Released,
    Source,
    State,
    StepStatus,
)
from node.settings import Settings

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class News:
    """Events in their order, and what the next look counts from."""

    events: list[Event]
    counted: Counts


def gather(connection: Connection, study: Row[Any], state: State, at: Instant, settings: Settings) -> News:
    """Everything that happened to a study since the last step.

    Images are counted by association and series rather than by row number, because a transaction with a smaller number
    may become visible later (PostgreSQL).
    """
    counted = _counts(connection, study.study_uid)
    events: list[Event] = list(_stored(counted, _known(study, counted), at))
    if (events and state.phase is Phase.COMPLETE) or state.last_at is None:
        events += _rhythm(connection, study.study_uid, at, settings)
    fresh = {event.association_id for event in events if isinstance(event, InstanceStored)}
    events += _ended(connection, state.open | {each for each in fresh if each}, at)
    events += _stated(connection, study.study_uid, state, at, settings)
    events += ordering.order_events(connection, study, state, at)
    if study.released_at is not None and study.released_at != study.arrival.get("released_at"):
        events.append(Released(at))
    if study.corrected_at != study.arrival.get("corrected_at"):
        events.append(Corrected(at))
    return News(events, counted)


def _counts(connection: Connection, study_uid: str) -> Counts:
    """Association → series → number of images that count; those found on disk under the empty name."""
    rows = connection.execute(
        select(instances.c.association_id, instances.c.series_uid, func.count())
        .where(
            instances.c.study_uid == study_uid, instances.c.active == true(), ~instances.c.ours, ~instances.c.derived
        )
        .group_by(instances.c.association_id, instances.c.series_uid)
        .order_by(instances.c.association_id, instances.c.series_uid)
    )
    found: Counts = {}
    for association_id, series_uid, count in rows:
        found.setdefault(association_id or "", {})[series_uid] = int(count)
    return found


def _known(study: Row[Any], counted: Counts) -> Counts:
    """What the last look counted. An earlier version counted by association alone: those that agree are known."""
    before: dict[str, Any] = study.arrival.get("counted", {})
    return {
        association: each if isinstance(each, dict) else counted.get(association, {})
        for association, each in before.items()
        if isinstance(each, dict) or each == sum(counted.get(association, {}).values())
    }


def _stored(counted: Counts, known: Counts, at: Instant) -> list[Event]:
    return [
        InstanceStored(at, association or None, more, series)
        for association, of_series in counted.items()
        for series, count in of_series.items()
        if (more := count - known.get(association, {}).get(series, 0)) > 0
    ]


def _rhythm(connection: Connection, study_uid: str, at: Instant, settings: Settings) -> list[Event]:
    learnt = history.rhythm_of(connection, study_uid, at, settings.arrival)
    return [learnt] if learnt is not None else []


def _ended(connection: Connection, known: frozenset[str], at: Instant) -> list[Event]:
    ended = select(associations.c.id, associations.c.ending).where(
        associations.c.id.in_(sorted(known)), associations.c.closed_at.is_not(None)
    )
    return [
        AssociationEnded(at, row.id, row.ending == index.Ending.RELEASED)
        for row in connection.execute(ended.order_by(associations.c.id))
    ]


def _stated(connection: Connection, study_uid: str, state: State, at: Instant, settings: Settings) -> list[Event]:
    rows = evidence.of_study(connection, study_uid)
    if not rows:
        return []
    here: dict[str, set[str]] = {}
    for series_uid, uid in connection.execute(
        select(instances.c.series_uid, instances.c.sop_instance_uid).where(
            instances.c.study_uid == study_uid, instances.c.active == true(), ~instances.c.ours, ~instances.c.derived
        )
    ):
        here.setdefault(series_uid, set()).add(uid)
    by_series = {series_uid: frozenset(uids) for series_uid, uids in here.items()}
    events: list[Event] = []
    for row in rows:
        if row.source == Source.MPPS.name and state.steps.get(row.reference) != row.status:
            events.append(PerformedStep(at, row.reference, StepStatus(row.status)))
        if row.named and row.status in ("", StepStatus.COMPLETED):
            listed = evidence.compared(row, by_series, at, whole_studies=settings.evidence.whole_studies)
            if _is_news(state, listed):
                events.append(listed)
    return events


def _is_news(state: State, listed: Listed) -> bool:
    """A list is news when it was said anew, or when something else of it is here."""
    known = state.lists.get(f"{listed.source.name} {listed.reference}")
    return known is None or known.series != listed.series or known.said_at != listed.said_at
