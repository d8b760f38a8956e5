"""The job queue: one row for each piece of work, taken under a lease.

Work exists once: study, rule, input key and run are unique. A job is started by the transaction that leases it, and
that transaction counts the attempt; so a job that kills whoever runs it ends dead after its last attempt. A lease that
is not renewed runs out, and :func:`sweep` gives the job back.

::

    queued ──lease──▶ running ──finish──▶ done
      ▲                  │──fail, for good──▶ failed
      │                  │──last attempt used──▶ dead
      └──fail, passing───┘     cancel: queued, running ▶ cancelled     retry: failed, dead, cancelled ▶ queued

A run of which an image was corrected is superseded: cancelled if it has not ended, and never tried again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Row, exists, func, null, select, update

from node.archive import ledger
from node.archive.pauses import job_is_paused
from node.archive.tables import jobs
from node.archive.upsert import insert_missing
from node.errors import AttemptsExhausted, LeaseLost, NotStored, UsageError

_PROVENANCE = ("work_key", "configuration", "model", "model_version", "model_digest", "provider")


class Priority(IntEnum):
    """Order of starting; smaller first."""

    STAT = 0
    URGENT = 1
    ROUTINE = 2
    OFF_PEAK = 3


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """What a job does.

    RUN has a model look at a study. RENDER writes the stored result of a run anew, as other objects. RETRACT tells a
    destination that objects it has were replaced. STATUS tells one destination what all runs of a study came to, where
    there are several. Only the first runs a model; the others name a run in ``parent_id``.
    """

    RUN = "run"
    RENDER = "render"
    RETRACT = "retract"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job as its dispatcher gets it.

    Attributes
    ----------
    attempt : int
        Number of this attempt, from 1; already counted.
    lease_until : float
        Seconds since the epoch.
    specification : dict
        As given to :func:`enqueue`.
    """

    id: int
    study_uid: str
    rule: str
    model_id: str
    input_key: str
    run: int
    priority: Priority
    attempt: int
    maximum_attempts: int
    lease_until: float
    shadow: bool
    specification: dict[str, Any]
    kind: JobKind = JobKind.RUN
    parent_id: int | None = None

    @classmethod
    def of(cls, row: Row[Any], *, attempt: int | None = None, lease_until: float = 0.0) -> Self:
        """A row of the table of jobs; without a lease for whoever looks things up, or answers, for a job that has ended."""
        return cls(
            id=row.id,
            study_uid=row.study_uid,
            rule=row.rule,
            model_id=row.model_id,
            input_key=row.input_key,
            run=row.run,
            priority=Priority(row.priority),
            attempt=row.attempts if attempt is None else attempt,
            maximum_attempts=row.maximum_attempts,
            lease_until=lease_until,
            shadow=row.shadow,
            specification=row.specification,
            kind=JobKind(row.kind),
            parent_id=row.parent_id,
        )


def enqueue(
    connection: Connection,
    now: float,
    *,
    study_uid: str,
    rule: str,
    model_id: str,
    input_key: str,
    priority: Priority,
    maximum_attempts: int,
    specification: dict[str, Any],
    shadow: bool,
    run: int = 1,
    kind: JobKind = JobKind.RUN,
    parent_id: int | None = None,
    not_before: float | None = None,
    provisional: bool = False,
) -> int | None:
    """File a job and return its number; None where this work was filed before.

    Parameters
    ----------
    input_key : str
        Hex SHA-256 over the study's instances.
    run : int
        From 1; higher for a run that supersedes an earlier one.
    parent_id : int or None
        The run whose result a job of another kind writes anew or takes back.
    not_before : float or None
        Seconds since the epoch; None means at once.
    provisional : bool
        Its study is not complete yet.
    """
    work = {"study_uid": study_uid, "rule": rule, "input_key": input_key, "run": run}
    job_id = insert_missing(
        connection,
        jobs,
        {
            **work,
            "model_id": model_id,
            "priority": int(priority),
            "state": str(JobState.QUEUED),
            "attempts": 0,
            "maximum_attempts": maximum_attempts,
            "not_before": now if not_before is None else not_before,
            "created_at": now,
            "shadow": shadow,
            "specification": specification,
            "kind": str(kind),
            "parent_id": parent_id,
            "provisional": provisional,
        },
        unique=list(work),
    )
    if job_id is None:
        return None
    detail: dict[str, Any] = {} if kind is JobKind.RUN else {"task": str(kind), "of": parent_id}
    ledger.record(
        connection,
        now,
        ledger.Kind.JOB_QUEUED,
        study_uid=study_uid,
        job_id=job_id,
        rule=rule,
        model=model_id,
        priority=Priority(priority).name,
        run=run,
        shadow=shadow,
        provisional=provisional,
        **detail,
    )
    return int(job_id)


def lease(
    connection: Connection, now: float, *, owner: str, lease_seconds: float, stat_only: bool = False
) -> LeasedJob | None:
    """Take the most urgent job that may start, oldest first; None where there is none. What is paused may not.

    Of one study and rule one job runs at a time, in the order of filing: a run names the one it replaces, and what takes
    a result back goes out after what replaces it.

    Parameters
    ----------
    owner : str
        Unique among all dispatchers, 64 characters at most.
    lease_seconds : float
        Time until the job is given back unless :func:`heartbeat` renews it.
    stat_only : bool
        Take nothing but STAT: for the slot that is kept free for it.
    """
    ready = select(jobs).where(
        jobs.c.state == JobState.QUEUED,
        jobs.c.not_before <= now,
        jobs.c.superseded_at.is_(None),
        ~_follows_a_running(),
        ~job_is_paused(),
    )
    if stat_only:
        ready = ready.where(jobs.c.priority == Priority.STAT)
    row = connection.execute(
        ready.order_by(jobs.c.priority, jobs.c.id).limit(1).with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None or not _goes_first(connection, now, row):
        return None
    attempt, until = row.attempts + 1, now + lease_seconds
    connection.execute(
        update(jobs)
        .where(jobs.c.id == row.id)
        .values(
            state=str(JobState.RUNNING),
            attempts=attempt,
            lease_owner=owner,
            lease_until=until,
            started_at=now,
            ended_at=None,
            error_code=None,
            message=None,
        )
    )
    _record(connection, now, ledger.Kind.JOB_STARTED, row, attempt=attempt, owner=owner)
    return LeasedJob.of(row, attempt=attempt, lease_until=until)


def _follows_a_running() -> ColumnElement[bool]:
    """Whether an earlier job of the same study and rule is running."""
    earlier = jobs.alias("earlier")
    same = (earlier.c.study_uid == jobs.c.study_uid) & (earlier.c.rule == jobs.c.rule) & (earlier.c.id < jobs.c.id)
    return exists().where(same, earlier.c.state == JobState.RUNNING)


def _goes_first(connection: Connection, now: float, row: Row[Any]) -> bool:
    """Whether no earlier job of the same study and rule is being started by another dispatcher at this moment.

    An earlier run that was given back and waits for another attempt must not come after a later one: it is cancelled.
    On PostgreSQL the statement that chose the job skipped the rows others had locked. What it skipped is looked at
    again, and never waited for: two dispatchers that wait for each other's job would end in a deadlock.
    """
    same = (jobs.c.study_uid == row.study_uid) & (jobs.c.rule == row.rule) & (jobs.c.id < row.id)
    open_states = jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING])
    seen = connection.execute(select(jobs.c.id, jobs.c.state, jobs.c.kind).where(same, open_states)).all()
    if any(other.state == JobState.RUNNING for other in seen):
        return False
    older = {other.id for other in seen if other.kind == row.kind == JobKind.RUN}
    free = select(jobs.c.id).where(jobs.c.id.in_(older), jobs.c.state == JobState.QUEUED)
    if set(connection.execute(free.with_for_update(skip_locked=True)).scalars()) != older:
        return False
    for number in older:
        cancel(connection, now, number)
    return True


def heartbeat(connection: Connection, now: float, job_id: int, owner: str, *, lease_seconds: float) -> bool:
    """Renew a lease; False where the job was cancelled or given to somebody else: stop working on it."""
    renewed = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.lease_owner == owner, jobs.c.state == JobState.RUNNING)
        .values(lease_until=now + lease_seconds)
    )
    return bool(renewed.rowcount)


def finish(connection: Connection, now: float, job_id: int, owner: str, *, result: dict[str, Any]) -> None:
    """End a job with a result; a refusal is one. The objects are frozen in the same transaction.

    Raises
    ------
    LeaseLost
        Roll the transaction back: another dispatcher has the job, or it was cancelled.
    """
    row = _held(connection, job_id, owner)
    _end(connection, now, row, JobState.DONE, result=result)
    facts = {"attempt": row.attempts, "outcome": result.get("outcome"), "timings": result.get("timings")}
    # What the result was made of and with, in the chained record: inputs, configuration, work, stored result, model.
    facts["input_key"] = row.input_key
    facts |= {name: result[name] for name in _PROVENANCE if result.get(name)}
    if stored := result.get("stored"):
        facts["stored"] = stored["digest"]
    if finder := (result.get("evidence") or {}).get("finder"):
        facts["finder"] = finder
    _record(connection, now, ledger.Kind.JOB_FINISHED, row, **facts)


def fail(
    connection: Connection,
    now: float,
    job_id: int,
    owner: str,
    *,
    code: str,
    message: str,
    transient: bool,
    retry_seconds: float,
) -> JobState:
    """End an attempt with an error, and return the state the job has then.

    Parameters
    ----------
    transient : bool
        Whether trying again may help: then queued again ``retry_seconds`` from now, or dead after the last attempt.

    Raises
    ------
    LeaseLost
        Another dispatcher has the job, or it was cancelled.
    """
    row = _held(connection, job_id, owner)
    _record(connection, now, ledger.Kind.JOB_FAILED, row, attempt=row.attempts, code=code, message=message)
    if not transient:
        _end(connection, now, row, JobState.FAILED, error_code=code, message=message)
        return JobState.FAILED
    return _give_back(connection, now, row, not_before=now + retry_seconds, code=code, message=message)


def sweep(connection: Connection, now: float) -> list[int]:
    """Take back jobs whose lease ran out: queued again, or dead where no attempt is left. Return their numbers."""
    expired = connection.execute(
        select(jobs)
        .where(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now)
        .order_by(jobs.c.id)
        .with_for_update(skip_locked=True)
    ).all()
    for row in expired:
        _record(connection, now, ledger.Kind.JOB_EXPIRED, row, attempt=row.attempts, owner=row.lease_owner)
        message = f"the dispatcher that ran attempt {row.attempts} is gone"
        _give_back(connection, now, row, not_before=now, code=AttemptsExhausted.code, message=message)
    return [row.id for row in expired]


def give_back(connection: Connection, now: float, job_id: int, owner: str) -> None:
    """Return a job unworked, as when the node stops or something more urgent needs the place: no attempt is counted.

    Raises
    ------
    LeaseLost
        Another dispatcher has the job, or it was cancelled.
    """
    row = _held(connection, job_id, owner)
    _end(connection, now, row, JobState.QUEUED, attempts=max(0, row.attempts - 1), ended_at=None, not_before=now)


def cancel(connection: Connection, now: float, job_id: int) -> JobState:
    """Cancel a job that has not ended and return its state. A running one is stopped by its dispatcher's next heartbeat.

    Raises
    ------
    NotStored
        There is no such job.
    """
    row = _locked(connection, job_id)
    if row.state not in (JobState.QUEUED, JobState.RUNNING):
        return JobState(row.state)
    _end(connection, now, row, JobState.CANCELLED)
    _record(connection, now, ledger.Kind.JOB_CANCELLED, row)
    return JobState.CANCELLED


def retry(connection: Connection, now: float, job_id: int) -> None:
    """Queue a failed, dead or cancelled job again with all its attempts.

    Raises
    ------
    NotStored
        There is no such job.
    UsageError
        The job has not ended, or has a result, or an image it took was corrected since, or a later run took its place.
    """
    row = _locked(connection, job_id)
    if row.superseded_at is not None:
        raise UsageError(f"images of job {job_id} were corrected since; their study runs again by itself")
    if (later := _later(connection, row)) is not None:
        raise UsageError(f"job {later} has taken the place of job {job_id}; try that one again")
    if row.state not in (JobState.FAILED, JobState.DEAD, JobState.CANCELLED):
        raise UsageError(f"job {job_id} is {row.state}; only a failed, dead or cancelled job can be tried again")
    _end(
        connection,
        now,
        row,
        JobState.QUEUED,
        attempts=0,
        ended_at=None,
        not_before=now,
        error_code=None,
        message=None,
        # What was answered for the failed run says nothing about this one.
        result=null(),
    )
    _record(connection, now, ledger.Kind.JOB_RETRIED, row)


def _later(connection: Connection, row: Row[Any]) -> int | None:
    """The latest run of the same study and rule that was filed after a run and not cancelled."""
    same = (jobs.c.study_uid == row.study_uid) & (jobs.c.rule == row.rule) & (jobs.c.kind == JobKind.RUN)
    standing = jobs.c.superseded_at.is_(None) & (jobs.c.state != JobState.CANCELLED)
    found = select(func.max(jobs.c.id)).where(same, standing, jobs.c.id > row.id)
    latest = connection.execute(found).scalar_one()
    return None if row.kind != JobKind.RUN or latest is None else int(latest)


def get(connection: Connection, job_id: int) -> Row[Any] | None:
    """Row of a job."""
    return connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()


def list_jobs(
    connection: Connection,
    *,
    states: Collection[JobState] | None = None,
    study_uid: str | None = None,
    limit: int = 100,
) -> list[Row[Any]]:
    """Jobs, the latest first."""
    statement = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
    if states is not None:
        statement = statement.where(jobs.c.state.in_([str(state) for state in states]))
    if study_uid is not None:
        statement = statement.where(jobs.c.study_uid == study_uid)
    return list(connection.execute(statement))


def count_by_state(connection: Connection) -> dict[JobState, int]:
    """How many jobs are in each state; states without any are left out."""
    rows = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state).order_by(jobs.c.state))
    return {JobState(state): count for state, count in rows}


def next_due(connection: Connection) -> float | None:
    """When the next queued job may start, in seconds since the epoch; None where none is queued."""
    return connection.execute(
        select(func.min(jobs.c.not_before)).where(jobs.c.state == JobState.QUEUED)
    ).scalar_one_or_none()


def _locked(connection: Connection, job_id: int) -> Row[Any]:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise NotStored(f"there is no job {job_id}")
    return row


def _held(connection: Connection, job_id: int, owner: str) -> Row[Any]:
    row = _locked(connection, job_id)
    if row.state != JobState.RUNNING or row.lease_owner != owner:
        raise LeaseLost(f"job {job_id} is {row.state} and not held by this dispatcher any more", job_id=job_id)
    return row


def _give_back(
    connection: Connection, now: float, row: Row[Any], *, not_before: float, code: str, message: str
) -> JobState:
    if row.attempts >= row.maximum_attempts:
        _end(connection, now, row, JobState.DEAD, error_code=code, message=message)
        _record(connection, now, ledger.Kind.JOB_DEAD, row, attempts=row.attempts, code=code, message=message)
        return JobState.DEAD
    _end(connection, now, row, JobState.QUEUED, not_before=not_before, ended_at=None, error_code=code, message=message)
    return JobState.QUEUED


def _end(connection: Connection, now: float, row: Row[Any], state: JobState, **values: Any) -> None:
    values = {"ended_at": now, "lease_owner": None, "lease_until": None, **values}
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(state=str(state), **values))


def _record(connection: Connection, now: float, kind: ledger.Kind, row: Row[Any], **detail: Any) -> None:
    ledger.record(connection, now, kind, study_uid=row.study_uid, job_id=row.id, **detail)
