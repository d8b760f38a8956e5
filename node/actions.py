"""What people do to the node, from the command line, the console or its API: one transaction each, and who it was.

Each function does it or raises; each leaves a row ``person.acted`` in the ledger beside those of the thing itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from node import assessments, doorbell, kill_switch, planning
from node.accounts.users import Actor
from node.archive import approvals, index, ledger
from node.archive.engine import Store
from node.archive.pauses import find
from node.delivery import outbox
from node.errors import NotStored, StudyHeld, UsageError
from node.installed_models import registry_of
from node.jobs import queue, status_jobs
from node.kill_switch import Backlog
from node.scopes import scope_of
from node.settings import Settings
from node.status import run_folder

if TYPE_CHECKING:
    from models.model import Model


def retry(settings: Settings, store: Store, job: int, *, by: Actor) -> int | None:
    """Run a job again; return the number of the new run where its result was assessed by a reader, else None.

    Raises
    ------
    NotStored, UsageError
        As :func:`node.jobs.queue.retry`.
    """
    with store.write() as connection:
        now = time.time()
        again = assessments.repeat(connection, now, job)
        if again is None:
            queue.retry(connection, now, job)
        _acted(connection, now, by, "retry", **_of_job(connection, job), new_run=again)
    _ring(settings, doorbell.DISPATCHER)
    return again


def cancel(settings: Settings, store: Store, job: int, *, by: Actor) -> None:
    """Cancel a queued or running job.

    Raises
    ------
    NotStored, UsageError
        There is no such job, or it has ended.
    """
    with store.write() as connection:
        now = time.time()
        before = queue.get(connection, job)
        if before is not None and before.state not in (queue.JobState.QUEUED, queue.JobState.RUNNING):
            raise UsageError(f"job {job} is {before.state} and has nothing left to cancel")
        queue.cancel(connection, now, job)
        status_jobs.release(connection, now, job, why="cancelled")
        _acted(connection, now, by, "cancel", **_of_job(connection, job))


def hold(settings: Settings, store: Store, study_uid: str, reason: str, *, by: Actor) -> str | None:
    """Hold a study; return the reason for which it was held already, else None.

    Raises
    ------
    NotStored
        There is no such study.
    """
    with store.write() as connection:
        now = time.time()
        found = _study(connection, study_uid)
        held = planning.hold(connection, now, study_uid, reason=f"operator: {reason or 'no reason given'}")
        if held is None:
            return str(found.held_reason)
        _acted(connection, now, by, "hold", study_uid=study_uid, reason=reason)
    return None


def release(settings: Settings, store: Store, study_uid: str, *, by: Actor) -> tuple[bool, int]:
    """Release a held study.

    Returns
    -------
    bool
        Whether it was held.
    int
        Images that no correction has reached and that are left out.

    Raises
    ------
    NotStored, StudyHeld
        There is no such study; its images still belong to two patients.
    """
    with store.write() as connection:
        now = time.time()
        found = _study(connection, study_uid)
        left_out = planning.leave_out_stragglers(connection, now, found)
        if still := planning.mixed_patients(connection, study_uid):
            raise StudyHeld(f"the study stays held: {still}")
        released = index.release_study(connection, now, study_uid, left_out=left_out)
        if released:
            _acted(connection, now, by, "release", study_uid=study_uid, left_out=left_out)
    _ring(settings, doorbell.SCHEDULER)
    return released, left_out


def replay(
    settings: Settings,
    store: Store,
    *,
    by: Actor,
    delivery: int | None = None,
    destination: str | None = None,
    since: float | None = None,
    until: float | None = None,
) -> list[int]:
    """Queue deliveries again with the same bytes; return their numbers.

    Raises
    ------
    NotStored, UsageError
        As :func:`node.delivery.replaying.replay`; no such destination.
    """
    if destination is not None and destination not in settings.destination:
        raise UsageError(f"there is no [destination.{destination}]")
    with store.write() as connection:
        now = time.time()
        queued = outbox.replay(connection, now, delivery_id=delivery, destination=destination, since=since, until=until)
        row = outbox.get(connection, delivery) if delivery is not None else None
        study_uid = row.study_uid if row is not None else None
        facts: dict[str, Any] = {"delivery": delivery, "destination": destination, "since": since, "until": until}
        _acted(connection, now, by, "replay", study_uid=study_uid, deliveries=len(queued), **_given(facts))
    _ring(settings, doorbell.SENDER)
    return queued


def pause(settings: Settings, store: Store, scope: str, name: str, reason: str, *, by: Actor) -> bool:
    """Stop a model, a rule, a destination or everything; False where it was stopped already.

    Raises
    ------
    UsageError
        No such scope or name, or no reason.
    """
    chosen = scope_of(settings, scope, name)
    reason = _reason(reason)
    with store.write() as connection:
        now = time.time()
        done = kill_switch.pause(connection, now, chosen, name, reason=reason, by=by.name)
        if done:
            _acted(connection, now, by, "pause", scope=str(chosen), name=name, reason=reason)
    _ring(settings, doorbell.SENDER)
    return done


def waiting(settings: Settings, store: Store, scope: str, name: str) -> Backlog:
    """What waits for the end of a pause.

    Raises
    ------
    UsageError
        No such scope or name, or it is not paused.
    """
    chosen = scope_of(settings, scope, name, may_be_gone=True)
    with store.read() as connection:
        if find(connection, chosen, name) is None:
            raise UsageError(f"{f'{scope} {name}'.strip()} is not paused; see `ainode status`")
        return kill_switch.backlog(connection, chosen, name)


def resume(
    settings: Settings, store: Store, scope: str, name: str, reason: str, *, run_backlog: bool, by: Actor
) -> Backlog:
    """Let go on what was paused, with what waited or without; return what waited.

    Raises
    ------
    UsageError
        No such scope or name, no reason, or it is not paused.
    """
    chosen = scope_of(settings, scope, name, may_be_gone=True)
    reason = _reason(reason)
    with store.write() as connection:
        now = time.time()
        waited = kill_switch.resume(connection, now, chosen, name, reason=reason, by=by.name, run_backlog=run_backlog)
        facts = {"scope": str(chosen), "name": name, "reason": reason, "run_backlog": run_backlog}
        _acted(connection, now, by, "resume", **facts)
    for bell in (doorbell.SENDER, doorbell.DISPATCHER):
        _ring(settings, bell)
    return waited


def approve(
    settings: Settings, store: Store, model_id: str, answers: str, digest: str | None, *, by: Actor
) -> tuple[str, str]:
    """Let a model's very files serve, after their digests and known answers were looked at.

    They take over from those approved before, of this version or another: jobs that run end on what they began with.

    Parameters
    ----------
    model_id : str
        Id, or ``id@version`` where there are several.
    answers : str
        Name of the person who answers for it.
    digest : str or None
        The files that person has seen the card of; None: those that are there.

    Returns
    -------
    version, digest : str

    Raises
    ------
    ModelError, UsageError
        The model is not as its card says; it needs no approval, or has changed since it was looked at.
    """
    registry = registry_of(settings)
    if digest is None:
        found = registry.get(model_id)
    elif (seen := registry.with_digest(model_id, digest)) is None:
        registry.get(model_id)  # says so where there is no such model
        raise UsageError(f"the files of {model_id} have changed since its card was shown; look at it again")
    else:
        found = seen
    return _let_serve(store, found, answers, by=by, verb="approve")


def rollback(settings: Settings, store: Store, model_id: str, answers: str, *, by: Actor) -> tuple[str, str]:
    """Let the files serve again that were approved before; their licence was accepted then.

    Returns
    -------
    version, digest : str

    Raises
    ------
    ModelError, UsageError
        Nothing else was ever approved, or its files are not installed any more, or are not as its card says.
    """
    with store.read() as connection:
        digest = approvals.before(connection, model_id)
    if digest is None:
        raise UsageError(f"no other files of {model_id} were approved before; see `ainode models approve`")
    found = registry_of(settings).with_digest(model_id, digest)
    if found is None:
        raise UsageError(f"the files of {model_id} that were approved before ({digest}) are not installed any more")
    return _let_serve(store, found, answers, by=by, verb="rollback")


def _let_serve(store: Store, model: Model, answers: str, *, by: Actor, verb: str) -> tuple[str, str]:
    card = model.card
    if model.serves_unasked:
        raise UsageError(f"{card.id} came with this product and needs no approval")
    model.verify()
    model.self_test()
    about = {"version": card.version, "digest": model.digest}
    with store.write() as connection:
        now = time.time()
        approvals.approve(connection, now, model_id=card.id, **about, by=answers, licence=card.licence)
        _acted(connection, now, by, verb, model=card.id, **about)
    return card.version, model.digest


def revoke(settings: Settings, store: Store, model_id: str, answers: str, *, by: Actor) -> bool:
    """Take a model's approval back; False where it had none."""
    with store.write() as connection:
        now = time.time()
        revoked = approvals.revoke(connection, now, model_id=model_id, by=answers)
        if revoked:
            _acted(connection, now, by, "revoke", model=model_id)
    return revoked


def _study(connection: Connection, study_uid: str) -> Any:
    found = index.study(connection, study_uid)
    if found is None:
        raise NotStored("there is no such study")
    return found


def _of_job(connection: Connection, job: int) -> dict[str, Any]:
    row = queue.get(connection, job)
    return {"job_id": job, "study_uid": row.study_uid if row is not None else None}


def _reason(text: str) -> str:
    if not (reason := " ".join(text.split())[:500]):
        raise UsageError("--reason: say why; it stands in the ledger")
    return reason


def _given(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value is not None}


def _acted(connection: Connection, now: float, by: Actor, action: str, **facts: Any) -> None:
    ledger.record(connection, now, ledger.Kind.PERSON_ACTED, action=action, **by.facts(), **_given(facts))


def _ring(settings: Settings, bell: str) -> None:
    doorbell.ring(run_folder(settings.data_dir), bell)
