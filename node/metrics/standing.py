"""Figures that are read anew at each scrape: each costs a look at an index, never at every instance."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from node import correction
from node.archive import canary_runs
from node.archive.tables import (
    alerts,
    associations,
    deliveries,
    instances,
    jobs,
    ledger_head,
    ledger_readers,
    model_approvals,
    notifications,
    pauses,
    studies,
)

PRIORITIES = ("stat", "urgent", "routine", "off-peak")


def store_figures(connection: Connection, now: float) -> Iterator[Metric]:
    """Everything the database says about the state of now.

    Parameters
    ----------
    now : float
        Seconds since the epoch.
    """
    yield from _jobs(connection, now)
    yield from _deliveries(connection, now)
    yield from _studies(connection)
    yield _by_state(connection, "ainode_alerts", "Alerts about results by state", alerts)
    yield _by_state(connection, "ainode_notifications", "Notifications about results by state", notifications)
    yield _pauses(connection)
    yield _approvals(connection)
    yield from _received(connection)
    yield from _canary(connection, now)
    yield from _readers(connection)


def _jobs(connection: Connection, now: float) -> Iterator[Metric]:
    by_state = GaugeMetricFamily("ainode_jobs", "Jobs by state", labels=["state"])
    for state, count in connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)):
        by_state.add_metric([state], int(count))
    yield by_state
    waiting = GaugeMetricFamily("ainode_queued_jobs", "Queued jobs by priority", labels=["priority"])
    age = GaugeMetricFamily("ainode_queue_age_seconds", "Age of the oldest queued job by priority", labels=["priority"])
    queued = select(jobs.c.priority, func.count(), func.min(jobs.c.created_at)).where(jobs.c.state == "queued")
    found = {
        int(priority): (int(count), now - oldest)
        for priority, count, oldest in connection.execute(queued.group_by(jobs.c.priority))
    }
    for number, name in enumerate(PRIORITIES):
        count, seconds = found.get(number, (0, 0.0))
        waiting.add_metric([name], count)
        age.add_metric([name], max(0.0, seconds))
    yield waiting
    yield age
    oldest_seconds = max((seconds for _, seconds in found.values()), default=0.0)
    oldest = GaugeMetricFamily("ainode_oldest_queued_job_seconds", "Age of the oldest queued job")
    oldest.add_metric([], max(0.0, oldest_seconds))
    yield oldest
    running = GaugeMetricFamily("ainode_longest_running_job_seconds", "Age of the job that has run longest")
    started = connection.execute(select(func.min(jobs.c.started_at)).where(jobs.c.state == "running")).scalar()
    running.add_metric([], 0.0 if started is None else max(0.0, now - started))
    yield running


def _deliveries(connection: Connection, now: float) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "ainode_deliveries", "Deliveries by destination and state", labels=["destination", "state"]
    )
    age = GaugeMetricFamily(
        "ainode_oldest_unsent_delivery_seconds", "Age of the oldest delivery that is not stored", labels=["destination"]
    )
    grouped = select(deliveries.c.destination, deliveries.c.state, func.count())
    for destination, state, count in connection.execute(grouped.group_by(deliveries.c.destination, deliveries.c.state)):
        family.add_metric([destination, state], int(count))
    yield family
    waiting = deliveries.c.state.in_(["queued", "sending", "failed", "unknown"])
    oldest = select(deliveries.c.destination, func.min(deliveries.c.created_at)).where(waiting)
    for destination, at in connection.execute(oldest.group_by(deliveries.c.destination)):
        age.add_metric([destination], max(0.0, now - at))
    yield age
    outdated = GaugeMetricFamily(
        "ainode_outdated_deliveries", "Results that a destination has under a corrected identity"
    )
    outdated.add_metric([], sum(each.deliveries for each in correction.outdated_studies(connection)))
    yield outdated


def _studies(connection: Connection) -> Iterator[Metric]:
    held = GaugeMetricFamily("ainode_held_studies", "Studies held for a person")
    count = select(func.count()).select_from(studies).where(studies.c.held_reason.is_not(None))
    held.add_metric([], int(connection.execute(count).scalar_one()))
    yield held
    waiting = GaugeMetricFamily("ainode_waiting_studies", "Studies that arrival looks at again")
    count = select(func.count()).select_from(studies).where(studies.c.due_at.is_not(None))
    waiting.add_metric([], int(connection.execute(count).scalar_one()))
    yield waiting


def _by_state(connection: Connection, name: str, words: str, table: object) -> Metric:
    state = table.c.state  # type: ignore[attr-defined]
    family = GaugeMetricFamily(name, words, labels=["state"])
    for value, count in connection.execute(select(state, func.count()).group_by(state)):
        family.add_metric([value], int(count))
    return family


def _pauses(connection: Connection) -> Metric:
    family = GaugeMetricFamily("ainode_paused", "What an operator has stopped", labels=["scope", "name"])
    for row in connection.execute(select(pauses.c.scope, pauses.c.name)):
        family.add_metric([row.scope, row.name], 1)
    return family


def _approvals(connection: Connection) -> Metric:
    family = GaugeMetricFamily("ainode_approved_models", "Models that a person has approved and that still count")
    count = select(func.count()).select_from(model_approvals).where(model_approvals.c.revoked_at.is_(None))
    family.add_metric([], int(connection.execute(count).scalar_one()))
    return family


def _received(connection: Connection) -> Iterator[Metric]:
    # Row numbers are never used again: the highest is the number of instances ever indexed.
    highest = connection.execute(select(func.max(instances.c.id))).scalar() or 0
    received = CounterMetricFamily("ainode_instances_received", "Instances indexed since the database was made")
    received.add_metric([], int(highest))
    yield received
    open_now = GaugeMetricFamily(
        "ainode_open_associations", "Associations that peers have open", labels=["calling_ae_title"]
    )
    grouped = (
        select(associations.c.calling_ae_title, func.count())
        .where(associations.c.closed_at.is_(None))
        .group_by(associations.c.calling_ae_title)
    )
    for title, count in connection.execute(grouped):
        open_now.add_metric([title], int(count))
    yield open_now


def _canary(connection: Connection, now: float) -> Iterator[Metric]:
    back, latest = canary_runs.last_back(connection), canary_runs.latest(connection)
    age = GaugeMetricFamily("ainode_canary_age_seconds", "Since the canary came back last")
    seconds = GaugeMetricFamily("ainode_canary_seconds", "From first image to last commitment, of the last canary")
    if back is not None:
        age.add_metric([], max(0.0, now - back.ended_at))
        seconds.add_metric([], max(0.0, back.ended_at - back.begun_at))
    yield age
    yield seconds
    lost = GaugeMetricFamily("ainode_canary_lost", "1 where the last canary did not come back", labels=["stage"])
    if latest:
        lost.add_metric([latest[0].stage], 0 if latest[0].state == "back" else 1)
    yield lost


def _readers(connection: Connection) -> Iterator[Metric]:
    head = connection.execute(select(ledger_head.c.sequence)).scalar_one_or_none() or 0
    behind = GaugeMetricFamily("ainode_audit_backlog", "Ledger rows that a reader has not handed on", labels=["reader"])
    for row in connection.execute(select(ledger_readers.c.name, ledger_readers.c.sequence)):
        behind.add_metric([row.name], max(0, head - row.sequence))
    yield behind
