"""The scheduler process: looks at studies when there is news or their time has come, and keeps house."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import func, select

from node import assessments, correction, doorbell, log, planning
from node.archive import (
    archive_studies,
    evidence,
    history,
    hl7_messages,
    index,
    ledger,
    orders,
    patient_changes,
    pauses,
    signed_reports,
    similar,
    workitems,
)
from node.archive.engine import Store, open_store
from node.archive.rescan import rescan
from node.archive.spool import Spool
from node.archive.tables import deliveries, instances, studies
from node.boot import MonotonicClock
from node.delivery import delivered, outbox
from node.dicom.outside import Outside
from node.errors import StoreUnavailable
from node.jobs import queue
from node.liveness import Liveness
from node.monitor.forecast import take_sample
from node.notify import alerts, notification_rows
from node.own_equipment import OwnEquipment
from node.settings import Settings
from node.settings.window import closed_until
from node.status import publish, run_folder
from node.workitem_watch import WorkitemWatch

_LOG = log.logger("scheduler")
POLL_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_LEASE_SWEEP_SECONDS = 2.0
_SEAL_SECONDS = 2.0
_SUMMARY_SECONDS = 2.0
_COMMITMENT_SECONDS = 10.0
_ASSESSMENT_SECONDS = 10.0
_LATE_ROWS = 200
_TIDY_SECONDS = 3600.0
_PRIORS_SECONDS = 5.0
_FETCH_SECONDS = 2.0
_COUNT_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
_NETWORK_THREADS = 4
_PART_AGE_SECONDS = 3600.0
_WORK_AGE_SECONDS = 24 * 3600.0


def run_scheduler(settings: Settings, stopping: threading.Event, liveness: Liveness | None = None) -> None:
    """Run until ``stopping`` is set."""
    liveness = liveness or Liveness()
    store = open_store(settings)
    scheduler = Scheduler(settings, store, liveness=liveness)
    timers = _timers(scheduler)
    outside = Outside(settings, store)
    watch(timers, settings, outside)
    workitem_events = WorkitemWatch(settings, store, partial(_look_at_workitems, timers, outside))
    scheduler.rebuild_index()
    scheduler.sample_disk()
    with store.write() as connection:
        ledger.record(connection, time.time(), ledger.Kind.NODE_STARTED)
    timers.start()
    workitem_events.start()
    try:
        liveness.ready("looking at studies")
        scheduler.run(stopping)
    finally:
        liveness.stopping()
        workitem_events.stop()
        timers.shutdown(wait=True)
        with store.write() as connection:
            ledger.record(connection, time.time(), ledger.Kind.NODE_STOPPED)
        scheduler.seal()
        store.close()


class Scheduler:
    """Steps studies and keeps house. Each piece of work is one short transaction.

    Parameters
    ----------
    settings : Settings
    store : Store
    liveness : Liveness or None
        Told of every turn of the loop, and of every study within one.
    """

    def __init__(self, settings: Settings, store: Store, *, liveness: Liveness | None = None) -> None:
        self._settings = settings
        self._liveness = liveness or Liveness()
        self._store = store
        self._clock = MonotonicClock()
        self._assessed = 0
        self._bells = run_folder(settings.data_dir)
        self._spool = Spool(settings.data_dir / "spool", settings.receive.disk_reserve_bytes)

    def run(self, stopping: threading.Event) -> None:
        """Look at studies whenever the doorbell rings or a wait ends, and every five seconds in any case."""
        with doorbell.Doorbell(self._bells, doorbell.SCHEDULER).listen() as bell:
            while not stopping.is_set():
                self._liveness.beat()
                until = time.monotonic() + min(POLL_SECONDS, self.look())
                # News come in bursts, one ring for each image: a short pause makes one step of many.
                stopping.wait(_PAUSE_SECONDS)
                while not stopping.is_set() and (left := until - time.monotonic()) > 0:
                    self._liveness.beat()
                    if bell.wait(min(left, 0.5)):
                        break

    def look(self) -> float:
        """Step every study that needs it; return the seconds until the next one does."""
        self._liveness.beat()
        try:
            return self._look()
        except StoreUnavailable as error:
            log.say(_LOG, 30, "the store is not available", error=str(error))
            return POLL_SECONDS

    def _look(self) -> float:
        next_in = POLL_SECONDS
        at = self._clock.now()
        with self._store.read() as connection:
            waiting = connection.execute(select(studies).where(studies.c.due_at.is_not(None))).all()
        queued: list[int] = []
        for study in waiting:
            self._liveness.beat()
            due_in = planning.waiting_in_seconds(study, at, self._settings)
            if due_in is not None and due_in <= 0.0:
                planned = self.step(study.study_uid)
                queued += planned.jobs
                due_in = planned.due_in_seconds
            next_in = min(next_in, due_in if due_in is not None else POLL_SECONDS)
        if queued:
            doorbell.ring(self._bells, doorbell.DISPATCHER)
        return next_in

    def step(self, study_uid: str) -> planning.Planned:
        """One transaction over one study; before it, what came back of our own results is looked at."""
        assessed = assessments.note(self._store, time.time(), study_uid, self._settings.data_dir)
        if assessed:
            log.say(_LOG, 30, "results were assessed, see `ainode assessments`", study=study_uid, objects=assessed)
        with self._store.write() as connection:
            planned = planning.step(connection, time.time(), self._clock.now(), study_uid, self._settings)
        if planned.held is not None:
            log.say(_LOG, 40, "STUDY HELD, nothing runs on it", study=study_uid, reason=planned.held)
        if planned.lifted:
            log.say(_LOG, 30, "study released, a correction removed the reason", study=study_uid)
        if planned.outdated:
            words = "CORRECTION: destinations have results with an OLD IDENTITY, see `ainode corrections`"
            log.say(_LOG, 40, words, study=study_uid, deliveries=planned.outdated)
        for job in planned.jobs:
            log.say(_LOG, 20, "job queued", study=study_uid, job=job)
        return planned

    def rebuild_index(self) -> None:
        """Index the spool where the index is empty, as after the loss of the database."""
        with self._store.read() as connection:
            if connection.execute(select(instances.c.id).limit(1)).first() is not None:
                return
        own = OwnEquipment.of(self._settings)
        outbox = self._settings.data_dir / "outbox"
        report = rescan(self._store, self._spool, outbox=outbox, own=own, look_for_missing=False)
        if report.seen:
            log.say(_LOG, 30, "index rebuilt from the spool", files=report.seen, damaged=len(report.damaged))

    def assess(self) -> None:
        """Look at what came back of our own results where nothing else wakes their study: copies of our own objects."""
        with self._store.read() as connection:
            newest = connection.execute(select(func.max(instances.c.id))).scalar_one() or 0
            # On PostgreSQL a smaller number may become visible later.
            recent = instances.c.id > self._assessed - _LATE_ROWS
            came = select(instances.c.study_uid).where(instances.c.ours, recent).distinct()
            returned = list(connection.execute(came).scalars())
        for study_uid in returned:
            assessments.note(self._store, time.time(), study_uid, self._settings.data_dir)
        self._assessed = newest

    def sweep_leases(self) -> None:
        """Give back jobs whose dispatcher is gone; wake dispatchers where a job's pause is over."""
        with self._store.read() as connection:
            expired = connection.execute(
                select(func.count())
                .select_from(queue.jobs)
                .where(queue.jobs.c.state == queue.JobState.RUNNING, queue.jobs.c.lease_until < time.time())
            ).scalar_one()
        if expired:
            with self._store.write() as connection:
                swept = queue.sweep(connection, time.time())
            log.say(_LOG, 30, "leases ran out", jobs=swept)
            doorbell.ring(self._bells, doorbell.DISPATCHER)

    def seal(self) -> None:
        """Chain the ledger's new rows."""
        while True:
            with self._store.read() as connection:
                unsealed = connection.execute(
                    select(ledger.ledger.c.id).where(ledger.ledger.c.sequence.is_(None)).limit(1)
                ).first()
            if unsealed is None:
                return
            with self._store.write() as connection:
                ledger.seal(connection)

    def expire_commitments(self) -> None:
        """Give up waiting for commitment answers that are overdue; the sender asks again."""
        with self._store.write() as connection:
            expired = outbox.expire_commitments(connection, time.time())
        if expired:
            doorbell.ring(self._bells, doorbell.SENDER)

    def remove_delivered(self) -> None:
        """Remove local copies of results that every destination was proven to have, after the time the site sets."""
        removed = delivered.remove_delivered(
            self._store, self._settings.data_dir / "outbox", time.time(), keep_days=self._settings.delivery.keep_days
        )
        if removed:
            log.say(_LOG, 20, "removed local copies of delivered results", count=removed)

    def tidy(self) -> None:
        """Remove what dead processes left behind: parts of the spool, folders of runs."""
        swept = self._spool.sweep_parts(_PART_AGE_SECONDS)
        work = self._settings.data_dir / "work"
        oldest = time.time() - _WORK_AGE_SECONDS
        for folder in work.iterdir() if work.is_dir() else ():
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        if swept:
            log.say(_LOG, 20, "removed leftovers", count=swept)
        before = time.time() - self._settings.arrival.history_days * 86400.0
        with self._store.write() as connection:
            for forget in (history.forget, evidence.forget, orders.forget, archive_studies.forget, workitems.forget):
                forget(connection, before)
            similar.forget_expired(connection, time.time())
            kept_since = time.time() - self._settings.hl7.keep_days * 86400.0
            for forget in (hl7_messages.forget, patient_changes.forget, signed_reports.forget):
                forget(connection, kept_since)

    def summarise(self) -> None:
        """Publish the counts that `ainode status` shows."""
        with self._store.read() as connection:
            by_state = connection.execute(select(studies.c.state, func.count()).group_by(studies.c.state)).all()
            held = index.list_studies(connection, held=True)
            outdated = correction.outdated_studies(connection)
            proofs = delivered.proofs_by_destination(connection)
            stopped = pauses.active(connection)
            by_destination = connection.execute(
                select(deliveries.c.destination, deliveries.c.state, func.count())
                .group_by(deliveries.c.destination, deliveries.c.state)
                .order_by(deliveries.c.destination, deliveries.c.state)
            ).all()
            jobs = {str(state): count for state, count in queue.count_by_state(connection).items()}
            told = alerts.count_by_state(connection), notification_rows.count_by_state(connection)
        destinations: dict[str, dict[str, int]] = {}
        total: dict[str, int] = {}
        for destination, state, count in by_destination:
            destinations.setdefault(destination, {})[state] = int(count)
            total[state] = total.get(state, 0) + int(count)
        paused = [{name: row._mapping[name] for name in ("scope", "name", "reason", "by", "since")} for row in stopped]
        summary: dict[str, Any] = {
            "at": time.time(),
            "studies": {state: int(count) for state, count in by_state},
            "held": [{"study_uid": row.study_uid, "reason": row.held_reason} for row in held],
            "outdated": [{"study_uid": each.study_uid, "deliveries": each.deliveries} for each in outdated],
            "jobs": jobs,
            "deliveries": total,
            "destinations": destinations,
            "alerts": told[0],
            "notifications": told[1],
            "proofs": proofs,
            "paused": paused,
            "downtime": self._downtime(time.time()),
        }
        publish(self._settings.data_dir, summary)

    def sample_disk(self) -> None:
        """Note how much is free, for the forecast."""
        take_sample(self._settings.data_dir)

    def _downtime(self, now: float) -> dict[str, float]:
        """Destinations in planned downtime → when it ends."""
        ends = {name: closed_until(each.downtime, now) for name, each in self._settings.destination.items()}
        return {name: end for name, end in ends.items() if end is not None}


def _timers(scheduler: Scheduler) -> BackgroundScheduler:
    """Everything that happens by the clock. One worker: housekeeping never competes with itself."""
    timers = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(1)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )
    for work, seconds in (
        (scheduler.sweep_leases, _LEASE_SWEEP_SECONDS),
        (scheduler.seal, _SEAL_SECONDS),
        (scheduler.summarise, _SUMMARY_SECONDS),
        (scheduler.expire_commitments, _COMMITMENT_SECONDS),
        (scheduler.assess, _ASSESSMENT_SECONDS),
        (scheduler.tidy, _TIDY_SECONDS),
        (scheduler.remove_delivered, _TIDY_SECONDS),
        (scheduler.sample_disk, _TIDY_SECONDS),
    ):
        timers.add_job(_tolerant(work), "interval", seconds=seconds, name=work.__name__)
    return timers


def watch(timers: BackgroundScheduler, settings: Settings, outside: Outside) -> None:
    """Everything that is asked of other systems by the clock, in threads of its own: a peer that is slow delays nobody."""
    timers.add_executor(ThreadPoolExecutor(_NETWORK_THREADS), "network")

    def every(work: Callable[[], Any], seconds: float, name: str, jitter: float | None = None) -> None:
        timers.add_job(
            _tolerant(work, name),
            "interval",
            seconds=seconds,
            jitter=jitter,
            name=name,
            executor="network",
            # At once, too: after a start nothing is known.
            next_run_time=datetime.now(UTC),
        )

    for name, section in settings.worklist.items():
        poll = partial(outside.poll, name)
        every(poll, section.interval_seconds, f"worklist {name}", section.jitter_seconds or None)
    for name, watched in settings.watch.items():
        every(partial(outside.watch, name), watched.interval_seconds, f"watch {name}", watched.jitter_seconds or None)
    if settings.reconcile.archive is not None:
        every(outside.reconcile, settings.reconcile.interval_seconds, "reconcile")
    if settings.retention.images_days:
        every(outside.retire_images, _TIDY_SECONDS, "retention")
    for name, manager in settings.workitems.items():
        perform = partial(outside.perform, name)
        every(perform, manager.interval_seconds, f"workitems {name}", manager.jitter_seconds or None)
    fetching = [each.archive for each in settings.workitems.values()] + [each.archive for each in settings.prompt]
    if settings.watch or settings.reconcile.archive is not None or any(fetching):
        every(outside.fetch_studies, _FETCH_SECONDS, "fetch studies")
    if settings.priors.archive is not None:
        every(outside.fetch_priors, _PRIORS_SECONDS, "priors")
        every(outside.make_room, _TIDY_SECONDS, "room for priors")
    if settings.arrival.archive is not None:
        every(outside.count_waiting, _COUNT_SECONDS, "counts")
    if settings.evidence.answer_commitment:
        every(outside.answer_commitments, _ANSWER_SECONDS, "commitment answers")


def _look_at_workitems(timers: BackgroundScheduler, outside: Outside, manager: str) -> None:
    """A manager told of news: it is asked now, not at the end of the interval.

    One look may run and one wait for it, which then sees whatever was told meanwhile.
    """
    timers.add_job(
        _tolerant(partial(outside.perform, manager), f"news of {manager}"),
        id=f"news of {manager}",
        executor="network",
        max_instances=2,
        replace_existing=True,
    )


def _tolerant(work: Callable[[], Any], name: str = "") -> Callable[[], None]:
    """A store that is away for a while, or a full disk, costs one turn and one line, not the timer."""

    called = name or getattr(work, "__name__", "work")

    def turn() -> None:
        try:
            work()
        except StoreUnavailable as error:
            log.say(_LOG, 30, "housekeeping had to wait", work=called, error=str(error))
        except OSError as error:
            log.say(_LOG, 30, "housekeeping had to wait", work=called, error=error.strerror)

    return turn
