"""Takes away what the canary leaves: files, rows, everything but the ledger, which says that it flew."""

from __future__ import annotations

import shutil
import time
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from node.archive import canary_runs
from node.archive.canary_runs import CanaryState
from node.archive.engine import Store
from node.archive.spool import study_folder
from node.archive.tables import (
    arrival_events,
    assessments,
    associations,
    commitments,
    deliveries,
    evidence,
    instances,
    jobs,
    objects,
    rhythms,
    studies,
)
from node.delivery.delivery_states import DeliveryState
from node.jobs import queue
from node.settings import CANARY, Settings

_RESTING_SECONDS = 600.0
"""A lost run may still be on its way through a process that was stuck: its rows go when nobody holds them any more."""

_KEPT_DAYS = 30.0


def clean(store: Store, settings: Settings) -> int:
    """Take away what ended runs left; return how many runs that were.

    Raises
    ------
    StoreUnavailable
        The rest is for the next time.
    """
    now = time.time()
    with store.read() as connection:
        left = canary_runs.uncleaned(connection)
    count = 0
    for run in left:
        if run.state == CanaryState.LOST:
            _stop(store, run)
            if now - run.ended_at < _RESTING_SECONDS:
                continue
        with store.write() as connection:
            if _is_held(connection, run.study_uid):
                continue
            _remove(connection, run.study_uid, settings.canary.ae_title)
        # After the rows: a file without a row is a leftover, a row without its file would be damage.
        for folder in ("spool", "outbox"):
            shutil.rmtree(settings.data_dir / folder / study_folder(run.study_uid), ignore_errors=True)
        with store.write() as connection:
            canary_runs.cleaned(connection, now, run.id)
            canary_runs.forget(connection, now - _KEPT_DAYS * 86400.0)
        count += 1
    return count


def _stop(store: Store, run: Row[Any]) -> None:
    """Nothing of a lost run is worked on any more."""
    waiting = (queue.JobState.QUEUED, queue.JobState.RUNNING)
    with store.write() as connection:
        for job in queue.list_jobs(connection, states=waiting, study_uid=run.study_uid):
            queue.cancel(connection, time.time(), job.id)


def _is_held(connection: Connection, study_uid: str) -> bool:
    """Whether a process has something of the study in hand."""
    running = select(jobs.c.id).where(jobs.c.study_uid == study_uid, jobs.c.state == queue.JobState.RUNNING)
    sending = (
        select(deliveries.c.id)
        .join(objects, objects.c.sop_instance_uid == deliveries.c.sop_instance_uid)
        .where(objects.c.study_uid == study_uid, deliveries.c.state == DeliveryState.SENDING)
    )
    return connection.execute(running).first() is not None or connection.execute(sending).first() is not None


def _remove(connection: Connection, study_uid: str, ae_title: str) -> None:
    made = select(objects.c.sop_instance_uid).where(objects.c.study_uid == study_uid)
    asked = select(deliveries.c.transaction_uid).where(deliveries.c.sop_instance_uid.in_(made))
    connection.execute(
        delete(commitments).where(commitments.c.destination == CANARY, commitments.c.transaction_uid.in_(asked))
    )
    connection.execute(delete(deliveries).where(deliveries.c.sop_instance_uid.in_(made)))
    connection.execute(delete(assessments).where(assessments.c.sop_instance_uid.in_(made)))
    for table in (objects, jobs, instances, arrival_events, rhythms, evidence, studies):
        connection.execute(delete(table).where(table.c.study_uid == study_uid))
    over = (associations.c.calling_ae_title == ae_title) & associations.c.closed_at.is_not(None)
    connection.execute(delete(associations).where(over))
