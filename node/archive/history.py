"""The events that arrival took into account, kept so that a replay decides the same, and how senders pause."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from sqlalchemy import Connection, delete, insert, select, true

from node.archive.tables import arrival_events, associations, instances, rhythms
from node.arrival import Event, Instant, RhythmLearnt
from node.arrival.events import content_of, event_from
from node.settings import ArrivalSection

_OBSERVATIONS = 500


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as it was taken into account; ``wall`` is seconds since the epoch."""

    wall: float
    event: Event


def record(connection: Connection, now: float, study_uid: str, events: Sequence[Event]) -> None:
    """Keep events in their order."""
    if not events:
        return
    rows = [
        {
            "study_uid": study_uid,
            "at": now,
            "boot_id": event.at.boot_id[:64],
            "seconds": event.at.seconds,
            "kind": type(event).__name__,
            "content": content_of(event),
        }
        for event in events
    ]
    connection.execute(insert(arrival_events), rows)


def studies_since(
    connection: Connection, since: float, until: float = math.inf
) -> Iterator[tuple[str, list[Recorded]]]:
    """Each study of which something was recorded in a time, with all of its events."""
    touched = select(arrival_events.c.study_uid).where(arrival_events.c.at >= since)
    if until < math.inf:
        touched = touched.where(arrival_events.c.at < until)
    uids = sorted(set(connection.execute(touched.distinct()).scalars()))
    for start in range(0, len(uids), 100):
        rows = connection.execute(
            select(arrival_events)
            .where(arrival_events.c.study_uid.in_(uids[start : start + 100]))
            .order_by(arrival_events.c.study_uid, arrival_events.c.id)
        )
        for study_uid, group in groupby(rows, key=lambda row: str(row.study_uid)):
            yield (
                study_uid,
                [
                    Recorded(row.at, event_from(row.kind, Instant(row.boot_id, row.seconds), row.content))
                    for row in group
                ],
            )


def forget(connection: Connection, before: float) -> int:
    """Remove what is older; return how many events that were."""
    return int(connection.execute(delete(arrival_events).where(arrival_events.c.at < before)).rowcount)


def observe(connection: Connection, now: float, study_uid: str) -> None:
    """Learn from a study that is complete how its senders paused; learnt anew when more of it comes."""
    rows = connection.execute(
        select(instances.c.association_id, instances.c.received_at, instances.c.modality, instances.c.calling_ae_title)
        .where(
            instances.c.study_uid == study_uid,
            instances.c.active == true(),
            ~instances.c.ours,
            instances.c.association_id.is_not(None),
        )
        .order_by(instances.c.received_at, instances.c.id)
    ).all()
    if not rows:
        return
    ends: dict[str, float] = {
        row.id: row.closed_at
        for row in connection.execute(
            select(associations.c.id, associations.c.closed_at).where(
                associations.c.id.in_({row.association_id for row in rows}), associations.c.closed_at.is_not(None)
            )
        )
    }
    connection.execute(delete(rhythms).where(rhythms.c.study_uid == study_uid))
    observed = []
    for association_id in dict.fromkeys(row.association_id for row in rows):
        own = [row for row in rows if row.association_id == association_id]
        times = [row.received_at for row in own]
        ended = max(ends.get(association_id, times[-1]), times[-1])
        later = [row.received_at for row in rows if row.received_at > ended and row.association_id != association_id]
        observed.append(
            {
                "association_id": association_id,
                "study_uid": study_uid,
                "calling_ae_title": own[0].calling_ae_title,
                "modality": own[0].modality,
                "within_seconds": max((after - before for before, after in pairwise(times)), default=0.0),
                "after_seconds": min(later) - ended if later else 0.0,
                "at": now,
            }
        )
    connection.execute(insert(rhythms), observed)


def rhythm_of(connection: Connection, study_uid: str, at: Instant, policy: ArrivalSection) -> RhythmLearnt | None:
    """What is known about the senders of a study; None where one of them has not been observed often enough.

    A wait is the quantile of what was observed, half as long again, within floor and ceiling.
    """
    senders = connection.execute(
        select(instances.c.calling_ae_title, instances.c.modality)
        .where(instances.c.study_uid == study_uid, instances.c.active == true(), ~instances.c.ours)
        .distinct()
    ).all()
    within, after, words = 0.0, 0.0, []
    for sender in sorted(senders):
        rows: Sequence[Any] = connection.execute(
            select(rhythms.c.within_seconds, rhythms.c.after_seconds)
            .where(
                rhythms.c.calling_ae_title == sender.calling_ae_title,
                rhythms.c.modality == sender.modality,
                rhythms.c.study_uid != study_uid,
            )
            .order_by(rhythms.c.at.desc())
            .limit(_OBSERVATIONS)
        ).all()
        if len(rows) < policy.rhythm_minimum:
            return None
        within = max(within, quantile([row.within_seconds for row in rows], policy.rhythm_quantile))
        after = max(after, quantile([row.after_seconds for row in rows], policy.rhythm_quantile))
        words.append(f"{sender.modality} of {sender.calling_ae_title or 'disk'}, {len(rows)} associations observed")
    if not words:
        return None
    told = f"learnt: {'; '.join(words)}"
    between = _wait(after, policy)
    # Silence while an association stands, or after one was cut off, is weaker evidence than the end of one.
    quiet = max(_wait(max(within, after), policy), between, policy.association_end_quiet_seconds)
    return RhythmLearnt(at, quiet, between, told)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _wait(observed: float, policy: ArrivalSection) -> float:
    return min(max(1.5 * observed, policy.rhythm_floor_seconds), policy.rhythm_ceiling_seconds)
