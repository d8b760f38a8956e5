"""The dispatcher: leases a job, has a child run it, and writes everything that follows in one transaction.

The child does the work and touches no database; this process touches the database and does no work. A job's end and
its frozen objects are one transaction, so that after a kill at any line the job is run again and gives the same bytes,
or has ended and never runs again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import null, select, update

from dicom_sr.errors import MixedPatients
from dicom_sr.identity import NodeIdentity
from models.errors import NodeError, Transient
from models.results import AFTER_SIGNING
from node import doorbell, log, planning, similar
from node.archive import ledger, signed_reports
from node.archive.engine import Store, open_store
from node.archive.tables import jobs
from node.delivery.outbox_files import place, place_result
from node.errors import AttemptsExhausted, ChildDied, DeadlineExceeded, LeaseLost, SpoolFull, StoreUnavailable
from node.identity import load_identity
from node.jobs import queue, retractions, status_jobs, versions
from node.jobs.briefing import Briefing
from node.jobs.executor import Executor, RunAbandoned, executor_for
from node.jobs.freezing import freeze
from node.jobs.heartbeat import Heartbeat
from node.jobs.queue import JobKind, JobState, LeasedJob
from node.jobs.specification import (
    Failure,
    ResultBundle,
    WrittenObject,
)
from node.liveness import Liveness
from node.notify.conditions import unwanted_profiles
from node.notify.facts import ResultFacts, facts_of_failure, facts_of_result
from node.settings import Settings
from node.status import run_folder

_LOG = log.logger("dispatcher")
POLL_SECONDS = 2.0
_TEST_POLL_SECONDS = 0.2
_STATUS_DEADLINE_SECONDS = 120.0


def run_dispatcher(
    settings: Settings, stopping: threading.Event, *, stat_only: bool = False, liveness: Liveness | None = None
) -> None:
    """Run until ``stopping`` is set; a run in progress is given back without costing an attempt."""
    store = open_store(settings)
    executor = executor_for(settings)
    liveness = liveness or Liveness()
    identity = load_identity(settings)
    dispatcher = Dispatcher(settings, store, executor, identity, stat_only=stat_only, liveness=liveness)
    try:
        liveness.ready("waiting for jobs")
        dispatcher.run(stopping)
    finally:
        liveness.stopping()
        executor.close()
        store.close()


class Dispatcher:
    """One slot: one job at a time, in one child.

    Parameters
    ----------
    settings : Settings
    store : Store
    executor : Executor
        Where the child lives.
    identity : NodeIdentity
        Stands in every object.
    stat_only : bool
        Keep this slot free for STAT.
    liveness : Liveness or None
        Told of every turn of the loop; during a run, of every look at the child.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        executor: Executor,
        identity: NodeIdentity,
        *,
        stat_only: bool = False,
        liveness: Liveness | None = None,
    ) -> None:
        self._settings = settings
        self._liveness = liveness or Liveness()
        self._store = store
        self._executor = executor
        self._identity = identity
        self._briefing = Briefing(settings, store, identity)
        self._stat_only = stat_only
        self._owner = f"{socket.gethostname()[:24]}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._bells = run_folder(settings.data_dir)
        self._work = settings.data_dir / "work"
        self._outbox = settings.data_dir / "outbox"
        self._stopping = threading.Event()
        self._testing = False

    def run(self, stopping: threading.Event) -> None:
        """Work until ``stopping`` is set."""
        self._stopping = stopping
        with doorbell.Doorbell(self._bells, doorbell.DISPATCHER).listen() as bell:
            while not stopping.is_set():
                self._liveness.beat()
                try:
                    self._executor.start(self._briefing.approved)
                    self._liveness.beat(**self._facts())
                    if not (pause := self.turn()):
                        continue
                except (StoreUnavailable, SpoolFull, ChildDied, DeadlineExceeded) as error:
                    log.say(_LOG, 30, "no run can start at the moment", error=str(error))
                    pause = POLL_SECONDS
                until = time.monotonic() + pause
                while not stopping.is_set() and time.monotonic() < until:
                    self._liveness.beat()
                    if bell.wait(min(0.5, pause)):
                        break

    def turn(self) -> float:
        """Run a job; where none waits, have a model asked for its known answer that is due. Return how long to pause, seconds.

        While one is being asked no job is taken: another dispatcher may be free for it.
        """
        was_testing, self._testing = self._testing, False
        if was_testing:
            self._testing = self._executor.test_when_idle(self._briefing.approved)
            return _TEST_POLL_SECONDS if self._testing else 0.0
        if self.run_once():
            return 0.0
        self.answer_the_dead()
        self._testing = self._executor.test_when_idle(self._briefing.approved)
        return _TEST_POLL_SECONDS if self._testing else POLL_SECONDS

    def _facts(self) -> dict[str, Any]:
        """What others may know of this dispatcher."""
        confinement = self._executor.confinement
        return {"models": self._executor.models, "confinement": confinement and confinement.model_dump()}

    def run_once(self) -> bool:
        """Take one job and bring it to an end; False when there was none.

        Raises
        ------
        SpoolFull
            There is no room for results. No job loses an attempt by it.
        """
        self._check_room()
        with self._store.write() as connection:
            job = queue.lease(
                connection,
                time.time(),
                owner=self._owner,
                lease_seconds=self._settings.jobs.lease_seconds,
                stat_only=self._stat_only,
            )
        if job is None:
            return False
        self._liveness.say(f"job {job.id}")
        log.say(_LOG, 20, "run starts", job=job.id, study=job.study_uid, model=job.model_id, attempt=job.attempt)
        folder = self._work / f"{job.id}-{job.attempt}-{uuid.uuid4().hex[:8]}"
        try:
            with Heartbeat(self._store, job, self._owner, self._settings.jobs.lease_seconds) as beat:
                self._work_on(job, folder, beat)
        except LeaseLost as error:
            log.say(_LOG, 30, "the job is not ours any more", job=job.id, error=str(error))
        except SpoolFull:
            # Not the job's fault, and nobody could be told about it now: neither result nor status object finds room.
            try:
                self._give_back(job)
            except LeaseLost as error:  # cancelled meanwhile, as by a correction
                log.say(_LOG, 30, "the job is not ours any more", job=job.id, error=str(error))
            raise
        finally:
            self._liveness.say("waiting for jobs")
            shutil.rmtree(folder, ignore_errors=True)
        return True

    def _check_room(self) -> None:
        """Images stop at the reserve, results at a quarter of it: what has been received can still be answered."""
        free, needed = shutil.disk_usage(self._settings.data_dir).free, self._settings.receive.disk_reserve_bytes // 4
        if free < needed:
            raise SpoolFull(f"{free} bytes are free, results need {needed}")

    def answer_the_dead(self) -> int:
        """Write status objects for jobs that died with the dispatcher that ran them; return how many."""
        self._check_room()
        # To whom an answer would go is not true any more where an image was corrected since.
        unanswered = (jobs.c.state == JobState.DEAD) & jobs.c.result.is_(null()) & jobs.c.superseded_at.is_(None)
        # A note about an earlier result owes nobody an answer.
        unanswered &= jobs.c.kind != JobKind.RETRACT
        with self._store.read() as connection:
            dead = connection.execute(select(jobs).where(unanswered).order_by(jobs.c.id).limit(10)).all()
        for row in [] if self._stat_only else dead:
            job = LeasedJob.of(row)
            failure = Failure(code=row.error_code or AttemptsExhausted.code, message=row.message or "", transient=True)
            folder = self._work / f"{job.id}-status-{uuid.uuid4().hex[:8]}"
            try:
                objects = self._status_objects(job, _reason(job, failure), folder, self._asked_to_stop)
                with self._store.write() as connection:
                    ours = update(jobs).where(jobs.c.id == job.id, unanswered)
                    told = [each.sop_instance_uid for each in objects]
                    if connection.execute(ours.values(result=_answer(told))).rowcount:
                        if job.kind is JobKind.STATUS:
                            status_jobs.release(connection, time.time(), job.id, why="failed")
                        freeze(connection, job, objects, _facts_of_failure(job, failure), self._settings)
                self._ring()
            except RunAbandoned:
                break
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return len(dead)

    def _asked_to_stop(self) -> bool:
        self._liveness.beat()
        return self._stopping.is_set()

    def _work_on(self, job: LeasedJob, folder: Path, beat: Heartbeat) -> None:
        def abandoned() -> bool:
            # The executor asks while it waits for the child.
            self._liveness.beat()
            return beat.lost or self._stopping.is_set()

        marked = False
        try:
            spec = self._briefing.specify(job, folder)
            if marked := job.kind is JobKind.RUN and self._signed_at(job) is not None:
                # Said in the result itself: whoever finds it later must not take it for part of the report.
                spec = spec.model_copy(update={"limitations": [*spec.limitations, AFTER_SIGNING]})
            if spec.retraction is not None and not spec.retraction.objects:
                bundle = ResultBundle(outcome="nothing_to_retract")
            elif spec.accounts is not None and not spec.accounts:
                bundle = ResultBundle(outcome="nothing_new")
            else:
                bundle = self._executor.run(spec, abandoned=abandoned)
        except RunAbandoned:
            if self._stopping.is_set() and not beat.lost:
                self._give_back(job)
            log.say(_LOG, 30, "run stopped", job=job.id, study=job.study_uid)
            return
        except NodeError as error:
            bundle = ResultBundle(
                failure=Failure(
                    code=error.code,
                    message=error.message,
                    remedy=error.remedy,
                    detail=error.detail,
                    transient=isinstance(error, Transient),
                )
            )
        if bundle.failure is not None and bundle.failure.code == SpoolFull.code:
            raise SpoolFull(bundle.failure.message)
        if bundle.failure is not None:
            self._failed(job, bundle.failure, folder, abandoned)
        else:
            self._finished(job, bundle, marked=marked)

    def _signed_at(self, job: LeasedJob) -> float | None:
        """When the report of the study was signed, where it was."""
        with self._store.read() as connection:
            return signed_reports.useful_until(connection, job.study_uid)

    def _give_back(self, job: LeasedJob) -> None:
        with self._store.write() as connection:
            queue.give_back(connection, time.time(), job.id, self._owner)

    def _finished(self, job: LeasedJob, bundle: ResultBundle, *, marked: bool) -> None:
        """End a job with its result; a run that does not say that the report was signed meanwhile is run once more."""
        facts = _facts_of_result(job, bundle)
        objects = self._placed(job, self._wanted(job, bundle, facts))
        stored = None if bundle.stored is None else place_result(self._outbox, bundle.stored, study_uid=job.study_uid)
        result = {
            "outcome": bundle.outcome,
            "work_key": bundle.work_key,
            **bundle.summary,
            "evidence": bundle.evidence,
            "timings": bundle.timings,
            "configuration": _configuration_digest(job),
            **({} if stored is None else {"stored": stored.model_dump(mode="json")}),
            **_failed_checks(bundle),
        }
        with self._store.write() as connection:
            now = time.time()
            signed_at = signed_reports.useful_until(connection, job.study_uid)
            may_mark = job.kind is JobKind.RUN and not job.shadow and self._settings.hl7.late_results == "mark"
            if signed_at is not None and may_mark and not marked:
                queue.give_back(connection, now, job.id, self._owner)
                log.say(_LOG, 20, "the report was signed during the run; it runs again to say so", job=job.id)
                return
            queue.finish(connection, now, job.id, self._owner, result=result)
            if not job.shadow and (digest := bundle.summary.get("model_digest")):
                similar.keep(connection, self._settings, job.study_uid, digest, bundle.embedding)
            if refusal := bundle.summary.get("refusal"):
                ledger.record(
                    connection,
                    now,
                    ledger.Kind.JOB_REFUSED,
                    study_uid=job.study_uid,
                    job_id=job.id,
                    **refusal,
                    detail=bundle.evidence.get("refusal", {}),
                )
            for language, objections in bundle.summary.get("objections", {}).items():
                ledger.record(
                    connection,
                    now,
                    ledger.Kind.TEXT_OBJECTED,
                    study_uid=job.study_uid,
                    job_id=job.id,
                    language=language,
                    objections=objections,
                    report_model=bundle.summary.get("report_model"),
                    policy=job.specification.get("contradictions", "block"),
                )
            for profile, verdict in bundle.checks.items():
                checked = {"profile": profile, **verdict}
                ledger.record(
                    connection, now, ledger.Kind.OBJECT_CHECKED, study_uid=job.study_uid, job_id=job.id, **checked
                )
            if freeze(connection, job, objects, facts, self._settings, marked=marked):
                self._replace_earlier(connection, now, job, objects)
        self._ring()
        log.say(_LOG, 20, "run ended", job=job.id, study=job.study_uid, outcome=bundle.outcome, **bundle.timings)

    def _replace_earlier(self, connection: Any, now: float, job: LeasedJob, objects: Sequence[WrittenObject]) -> None:
        """Let the set take the place of earlier ones, and have those told who have them."""
        if job.kind is JobKind.RETRACT or job.shadow or not objects:
            return
        taken = versions.replace(connection, now, job, objects)
        retractions.file_retractions(connection, now, job, taken, objects, self._identity)

    def _failed(self, job: LeasedJob, failure: Failure, folder: Path, abandoned: Any) -> None:
        """End the attempt; where it was the last one, the destinations get a status object."""
        final = not failure.transient or job.attempt >= job.maximum_attempts
        log.say(_LOG, 40, "run failed", job=job.id, study=job.study_uid, code=failure.code, message=failure.message)
        mixed = failure.code == MixedPatients.code
        objects: list[WrittenObject] = []
        if final and not mixed:
            try:
                objects = self._status_objects(job, _reason(job, failure), folder, abandoned)
            except RunAbandoned:
                return
        with self._store.write() as connection:
            now = time.time()
            queue.fail(
                connection,
                now,
                job.id,
                self._owner,
                code=failure.code,
                message=failure.message,
                transient=failure.transient,
                retry_seconds=self._settings.jobs.retry_seconds,
            )
            if final:
                told = [each.sop_instance_uid for each in objects]
                if job.kind is JobKind.STATUS:
                    told = status_jobs.release(connection, now, job.id, why="failed")
                connection.execute(update(jobs).where(jobs.c.id == job.id).values(result=_answer(told)))
                freeze(connection, job, objects, _facts_of_failure(job, failure), self._settings)
            if mixed:
                reason = f"{planning.MIXED_PATIENTS}: {failure.message}"
                planning.hold(connection, now, job.study_uid, reason=reason)
        if mixed:
            log.say(_LOG, 40, "STUDY HELD, nothing runs on it", study=job.study_uid, reason=failure.message)
        self._ring()

    def _status_objects(self, job: LeasedJob, reason: Failure, folder: Path, abandoned: Any) -> list[WrittenObject]:
        """Render "AI did not run: reason" in a fresh child. Empty, and loud, when even that fails.

        A shadow run owes nobody an answer, and neither does a note about an earlier result. What a combined status was to
        tell is told by the status objects that were held back for it.
        """
        if job.shadow or job.kind in (JobKind.RETRACT, JobKind.STATUS):
            return []
        self._executor.discard()
        shutil.rmtree(folder, ignore_errors=True)
        try:
            # A run that failed replaces nothing and compares with nothing.
            spec = self._briefing.specify(job, folder, with_history=False).model_copy(
                update={"status_only": reason, "deadline_seconds": _STATUS_DEADLINE_SECONDS}
            )
            bundle = self._executor.run(spec, abandoned=abandoned)
            if bundle.failure is None:
                return self._placed(job, bundle)
            if bundle.failure.code == SpoolFull.code:
                raise SpoolFull(bundle.failure.message)
            problem = f"{bundle.failure.code}: {bundle.failure.message}"
        except SpoolFull:
            raise
        except NodeError as error:
            problem = str(error)
        log.say(_LOG, 40, "NO ANSWER could be written for a study", job=job.id, study=job.study_uid, error=problem)
        return []

    def _wanted(self, job: LeasedJob, bundle: ResultBundle, facts: ResultFacts) -> ResultBundle:
        """Without objects that were made for destinations of notify rules which do not hold."""
        unwanted = unwanted_profiles(
            self._settings.notify,
            facts,
            destinations=job.specification["destinations"],
            further=job.specification.get("further", {}),
        )
        kept = [each for each in bundle.objects if each.profile not in unwanted]
        return bundle.model_copy(update={"objects": kept})

    def _placed(self, job: LeasedJob, bundle: ResultBundle) -> list[WrittenObject]:
        return [place(self._outbox, each, study_uid=job.study_uid) for each in bundle.objects]

    def _ring(self) -> None:
        doorbell.ring(self._bells, doorbell.SENDER)
        doorbell.ring(self._bells, doorbell.NOTIFIER)


def _facts_of_result(job: LeasedJob, bundle: ResultBundle) -> ResultFacts:
    return facts_of_result(
        rule=job.rule,
        model=job.model_id,
        run=job.run,
        priority=int(job.priority),
        outcome=bundle.outcome or "",
        summary=bundle.summary,
    )


def _facts_of_failure(job: LeasedJob, failure: Failure) -> ResultFacts:
    reason = _reason(job, failure)
    return facts_of_failure(
        rule=job.rule,
        model=job.model_id,
        run=job.run,
        priority=int(job.priority),
        code=reason.code,
        message=reason.message,
    )


def _reason(job: LeasedJob, failure: Failure) -> Failure:
    """What the status object says: the failure, or that it came again and again."""
    if not failure.transient:
        return failure
    return Failure(
        code=AttemptsExhausted.code,
        message=f"the run failed {job.attempt} time(s), last with {failure.code}: {failure.message}",
        remedy=AttemptsExhausted.remedy,
        detail=failure.detail,
    )


def _configuration_digest(job: LeasedJob) -> str:
    """Hex SHA-256 of everything that was configured for a job; what it took is its input key."""
    configured = {name: value for name, value in job.specification.items() if name != "files"}
    return hashlib.sha256(json.dumps(configured, sort_keys=True).encode()).hexdigest()


def _answer(told: Sequence[str]) -> dict[str, Any]:
    """Result of a job that failed for good: SOP Instance UIDs of what tells so."""
    return {"outcome": None, "answered": bool(told), "objects": list(told)}


def _failed_checks(bundle: ResultBundle) -> dict[str, Any]:
    """Profiles that got a status instead of the result, because their objects failed their check."""
    failed = {
        profile: {"code": verdict["code"], "message": str(verdict["problems"][0])}
        for profile, verdict in bundle.checks.items()
        if not verdict["passed"]
    }
    return {"failed_checks": failed} if failed else {}
