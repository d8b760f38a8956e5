"""One status for all runs of a study at a destination, where there are several.

The transaction that ends a run holds its own status objects back wherever another run answers the same destination, and
files a job that tells there what all of them came to. That job reads the store when it starts, so whichever of several
runs ends last is told of, however close together they end; and while some are still open it waits a little for them.
Where it fails for good, is cancelled, or taken back by a correction, the status objects that were held back go out as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select, update

from dicom_sr.identity import NodeIdentity
from models.errors import register
from node.archive import ledger
from node.archive.tables import deliveries, jobs, objects
from node.delivery.delivery_rows import record, rows_where, set_values, superseded, with_object, withdraw_replaced
from node.delivery.delivery_states import DeliveryState
from node.jobs import company, queue
from node.jobs.queue import JobKind, JobState, LeasedJob, Priority
from node.jobs.specification import Failure, Predecessor, RunAccount, StoredFile, WrittenObject
from node.jobs.versions import reference, wall_clock
from node.jobs.work_parameters import accounts_digest

RULE = "(status)"
"""Stands for the rule of such jobs; no rule of a site can be named so."""
PATIENCE_SECONDS = 60.0
"""How long a status waits for runs that are still open."""
_DEADLINE_SECONDS = 120.0


def file(
    connection: Connection,
    now: float,
    job: LeasedJob,
    written: Sequence[WrittenObject],
    destinations: Mapping[str, Sequence[str]],
) -> None:
    """Where several runs answer a destination, have one status tell of them, in the transaction that ends one of them.

    Parameters
    ----------
    written : sequence of WrittenObject
        The set that was frozen.
    destinations : mapping
        Profile → destinations the set was filed for.
    """
    if job.shadow or job.kind not in (JobKind.RUN, JobKind.RENDER):
        return
    for profile, names in sorted(destinations.items()):
        if job.specification["profiles"][profile].get("anonymous", False):
            continue  # it names the patient
        own = [each.sop_instance_uid for each in company.statuses_of(written, profile)]
        for name in names:
            if not own and not _is_told(connection, job, name):
                continue
            runs = company.company(connection, job.study_uid, name)
            if len(runs) > 1:
                by = _file_one(connection, now, job, profile, name, runs)
                _hold_back(connection, now, own, name, by=by)


def _is_told(connection: Connection, job: LeasedJob, destination: str) -> bool:
    """Whether a status stands at a destination, or is being made for it."""
    if _open_jobs(connection, job.study_uid, destination, lock=False):
        return True
    standing = with_object().where(*company.standing_statuses(job.study_uid, destination)).limit(1)
    return connection.execute(standing).first() is not None


def _open_jobs(connection: Connection, study_uid: str, destination: str, *, lock: bool) -> list[Row[Any]]:
    """Status jobs for a destination that have not ended; with ``lock`` those that have not begun, and will not now."""
    states = [JobState.QUEUED] if lock else list(company.OPEN)
    statement = select(jobs).where(
        jobs.c.study_uid == study_uid,
        jobs.c.kind == JobKind.STATUS,
        jobs.c.state.in_([str(state) for state in states]),
        jobs.c.superseded_at.is_(None),
    )
    # One that another dispatcher is starting at this moment is not waited for: it gets a successor.
    found = connection.execute(statement.with_for_update(skip_locked=True) if lock else statement)
    return [row for row in found if destination in _destinations(row)]


def _destinations(row: Row[Any]) -> list[str]:
    return [name for names in row.specification["destinations"].values() for name in names]


def _file_one(
    connection: Connection, now: float, job: LeasedJob, profile: str, destination: str, runs: Sequence[Row[Any]]
) -> int:
    """The job that tells of ``runs``: one that waits already, brought up to date, or a new one."""
    due = now + (PATIENCE_SECONDS if any(row.state in company.OPEN for row in runs) else 0.0)
    specification = {
        **job.specification,
        # A correction of any image that a run took takes the status back, too.
        "files": sorted({path for row in runs for path in row.specification["files"]}),
        "profiles": {profile: job.specification["profiles"][profile]},
        "destinations": {profile: [destination]},
        "further": {},
        "report_model": None,
        "request": None,
        "deadline_seconds": _DEADLINE_SECONDS,
    }
    for waiting in _open_jobs(connection, job.study_uid, destination, lock=True):
        priority = min(int(waiting.priority), int(job.priority))
        connection.execute(
            update(jobs)
            .where(jobs.c.id == waiting.id)
            .values(specification=specification, not_before=due, priority=priority)
        )
        return int(waiting.id)
    number = queue.enqueue(
        connection,
        now,
        study_uid=job.study_uid,
        rule=RULE,
        model_id=job.model_id,
        input_key=hashlib.sha256(f"status {job.id} {job.attempt} {destination} {now}".encode()).hexdigest(),
        priority=Priority(job.priority),
        maximum_attempts=job.maximum_attempts,
        specification=specification,
        shadow=False,
        run=job.run,
        kind=JobKind.STATUS,
        parent_id=job.id if job.kind is JobKind.RUN else job.parent_id,
        not_before=due,
    )
    if number is None:
        raise AssertionError("a status job was filed twice in one moment")
    return number


def _hold_back(connection: Connection, now: float, uids: Sequence[str], destination: str, *, by: int) -> None:
    chosen = (deliveries.c.destination == destination) & deliveries.c.sop_instance_uid.in_(list(uids))
    for row in rows_where(connection, chosen, deliveries.c.state == DeliveryState.QUEUED):
        set_values(connection, row.id, replaced_by=by)
        withdraw_replaced(connection, now, row, by=by)


def release(connection: Connection, now: float, job_id: int, *, why: str) -> list[str]:
    """Let go what was held back for a status job that tells nobody anything; return the SOP Instance UIDs.

    Parameters
    ----------
    why : str
        What became of the job, for the ledger: "failed", "cancelled", "superseded".
    """
    held = rows_where(connection, deliveries.c.replaced_by == job_id, deliveries.c.state == DeliveryState.WITHDRAWN)
    released = []
    for row in held:
        if not superseded(connection, row.job_id):
            values = {"state": str(DeliveryState.QUEUED), "replaced_by": None, "message": None, "not_before": now}
            set_values(connection, row.id, **values)
            record(connection, now, ledger.Kind.DELIVERY_RETURNED, row, message=f"status job {job_id} {why}")
            released.append(row.sop_instance_uid)
    return released


def accounts(connection: Connection, job: LeasedJob, outbox: Path) -> list[RunAccount]:
    """What a status job has to tell; empty where it has been told already.

    Parameters
    ----------
    outbox : Path
        Folder that stored results lie in.
    """
    ((profile, (destination,)),) = job.specification["destinations"].items()
    told = [
        _account(connection, row, destination, outbox)
        for row in company.company(connection, job.study_uid, destination)
    ]
    latest = connection.execute(
        select(jobs)
        .join(objects, objects.c.job_id == jobs.c.id)
        .join(deliveries, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)
        .where(
            *company.standing_statuses(job.study_uid, destination),
            jobs.c.kind == JobKind.STATUS,
            objects.c.profile == profile,
        )
        .order_by(jobs.c.id.desc())
        .limit(1)
    ).one_or_none()
    same = latest is not None and (latest.result or {}).get("accounts_digest") == accounts_digest(told)
    return [] if same else told


def predecessor(connection: Connection, job: LeasedJob, identity: NodeIdentity) -> Predecessor | None:
    """The status that a destination has, or gets, without this one; None where it is the first."""
    ((profile, (destination,)),) = job.specification["destinations"].items()
    standing = with_object().where(
        *company.standing_statuses(job.study_uid, destination), deliveries.c.state != DeliveryState.WITHDRAWN
    )
    rows = connection.execute(standing.order_by(objects.c.role, objects.c.sop_instance_uid)).all()
    if not rows:
        return None
    earlier = connection.execute(select(jobs).where(jobs.c.id == max(row.job_id for row in rows))).one()
    return Predecessor(
        job_id=earlier.id,
        run=earlier.run,
        moment=wall_clock(earlier.ended_at or 0.0, identity.timezone_offset),
        objects={profile: [reference(row) for row in rows]},
    )


def _account(connection: Connection, run: Row[Any], destination: str, outbox: Path) -> RunAccount:
    named = {"job_id": run.id, "rule": run.rule, "model_id": run.model_id, "run": run.run}
    if run.state not in company.ENDED:
        return RunAccount(**named, is_open=True)
    form = _form(connection, run, destination)
    if form.state in (JobState.FAILED, JobState.DEAD):
        return RunAccount(**named, failure=_failure(form.error_code or "", form.message or ""))
    result, said = run.result or {}, form.result or {}
    for profile, names in form.specification["destinations"].items():
        if destination in names and (failed := said.get("failed_checks", {}).get(profile)):
            return RunAccount(**named, failure=_failure(failed["code"], failed["message"]))
    stored = None
    if result.get("stored") and result.get("outcome") != "found":
        file = StoredFile.model_validate(result["stored"])
        stored = file.model_copy(update={"path": outbox / file.path})
    return RunAccount(**named, outcome=result.get("outcome"), summary=_short(result), stored=stored)


def _failure(code: str, message: str) -> Failure:
    remedy = next((error.remedy for error in register() if error.code == code), "")
    return Failure(code=code, message=message, remedy=remedy)


def _form(connection: Connection, run: Row[Any], destination: str) -> Row[Any]:
    """The job whose set of a run's result a destination gets: the run itself, or the latest that wrote it anew for it."""
    renders = connection.execute(
        select(jobs)
        .where(
            jobs.c.parent_id == run.id,
            jobs.c.kind == JobKind.RENDER,
            jobs.c.state.in_([str(state) for state in company.ENDED]),
            jobs.c.superseded_at.is_(None),
        )
        .order_by(jobs.c.id.desc())
    )
    return next((row for row in renders if destination in _destinations(row)), run)


_SAID = ("title", "finding", "site", "total_ml", "detection_limit_ml", "limitations", "refusal")
_MODEL = ("model", "model_version", "model_digest")


def _short(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in (*_SAID, *_MODEL) if result.get(name) is not None}
