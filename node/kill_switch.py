"""The kill switch: a model, a rule, a destination, or everything, stopped by an operator until it is resumed.

Receiving goes on. While a scope is paused no run of it starts, and nothing of it leaves: see :mod:`node.archive.pauses`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from node.archive import ledger
from node.archive.pauses import Scope, find, run_matches
from node.archive.tables import deliveries, jobs, objects, pauses
from node.delivery.delivery_rows import discard, rows_where
from node.delivery.delivery_states import WAITING
from node.errors import UsageError
from node.jobs import queue, status_jobs
from node.notify import notification_rows


@dataclass(frozen=True, slots=True)
class Backlog:
    """What of a scope waits to start or to leave."""

    jobs: int
    deliveries: int


def pause(connection: Connection, now: float, scope: Scope, name: str, *, reason: str, by: str) -> bool:
    """Stop a scope; False where it was stopped already.

    Parameters
    ----------
    name : str
        Model, rule or destination; empty for ``all``.
    reason : str
        Stands in the ledger; names no patient.
    by : str
        Who did it: an account of the operating system.
    """
    if find(connection, scope, name) is not None:
        return False
    row = {"scope": str(scope), "name": name, "reason": reason, "by": by[:64], "since": now}
    connection.execute(insert(pauses).values(**row))
    ledger.record(connection, now, ledger.Kind.PAUSED, scope=str(scope), name=name, reason=reason, by=by)
    return True


def resume(
    connection: Connection, now: float, scope: Scope, name: str, *, reason: str, by: str, run_backlog: bool
) -> Backlog:
    """Let a scope go on; return what waited.

    Parameters
    ----------
    run_backlog : bool
        What waits goes on; else its jobs are cancelled, its deliveries and notifications withdrawn, for good.

    Raises
    ------
    UsageError
        The scope is not paused.
    """
    found = find(connection, scope, name)
    if found is None:
        raise UsageError(f"{f'{scope} {name}'.strip()} is not paused")
    waiting_jobs = _jobs(connection, scope, name)
    if not run_backlog:
        for job in waiting_jobs:
            queue.cancel(connection, now, job.id)
            # What a run outside the scope has to say is not part of the backlog.
            status_jobs.release(connection, now, job.id, why="cancelled")
    waiting_deliveries = _deliveries(connection, scope, name)
    if not run_backlog:
        for row in waiting_deliveries:
            discard(connection, now, row)
        if scope is not Scope.DESTINATION:
            notification_rows.discard(connection, now, run_matches(scope, name))
    connection.execute(delete(pauses).where(pauses.c.scope == str(scope), pauses.c.name == name))
    waited = Backlog(len(waiting_jobs), len(waiting_deliveries))
    ledger.record(
        connection,
        now,
        ledger.Kind.RESUMED,
        scope=str(scope),
        name=name,
        reason=reason,
        by=by,
        since=found.since,
        backlog="kept" if run_backlog else "discarded",
        jobs=waited.jobs,
        deliveries=waited.deliveries,
    )
    return waited


def backlog(connection: Connection, scope: Scope, name: str) -> Backlog:
    """What of a scope waits."""
    return Backlog(len(_jobs(connection, scope, name)), len(_deliveries(connection, scope, name)))


def _jobs(connection: Connection, scope: Scope, name: str) -> list[Row[Any]]:
    if scope is Scope.DESTINATION:
        return []
    queued = select(jobs).where(jobs.c.state == queue.JobState.QUEUED, run_matches(scope, name))
    return list(connection.execute(queued.order_by(jobs.c.id)))


def _deliveries(connection: Connection, scope: Scope, name: str) -> list[Row[Any]]:
    of_runs = objects.c.job_id.in_(select(jobs.c.id).where(run_matches(scope, name)))
    of_scope = deliveries.c.destination == name if scope is Scope.DESTINATION else of_runs
    return rows_where(connection, deliveries.c.state.in_([str(state) for state in WAITING]), of_scope)
