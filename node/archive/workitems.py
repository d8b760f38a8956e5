"""Claimed workitems in the store: the claim's lock, what was asked, and how far its manager knows.

The row is written before the claim goes out, so that a claim whose answer was lost is recognised as our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from node.archive import archive_studies, ledger, orders
from node.archive.tables import deliveries, jobs, objects, studies, workitems
from node.delivery.delivery_states import DeliveryState
from node.jobs import queue
from node.jobs.queue import JobKind, JobState
from node.workitem import Output, Run, Standing, StepState, Workitem


class ClaimState(StrEnum):
    """How far a claim is."""

    CLAIMING = "claiming"
    """Asked for; whether the manager has agreed is not known."""
    CLAIMED = "claimed"
    ENDING = "ending"
    """Everything is done here; the manager has not confirmed the end."""
    ENDED = "ended"
    LOST = "lost"
    """Somebody else has it, or it is gone."""


_OPEN = (ClaimState.CLAIMING, ClaimState.CLAIMED, ClaimState.ENDING)


def begin(
    connection: Connection, now: float, source: str, workitem: Workitem, transaction_uid: str, rules: Sequence[str]
) -> bool:
    """Note that a workitem is about to be claimed; False where it was claimed before."""
    code = workitem.code
    values = {
        "uid": workitem.uid,
        "source": source,
        "transaction_uid": transaction_uid,
        "state": str(ClaimState.CLAIMING),
        "content": {
            "code": {"value": code.value, "scheme": code.scheme, "meaning": code.meaning},
            "studies": sorted(workitem.inputs),
            "rules": list(rules),
        },
        "study_uid": workitem.order.study_uid,
        "claimed_at": now,
        "cancel_asked_at": None,
        "told": "",
    }
    chosen = (workitems.c.uid == workitem.uid) & (workitems.c.source == source)
    known = connection.execute(select(workitems.c.uid).where(chosen)).first()
    if known is not None:
        # Lost once, and given back since: it is claimed anew under another lock.
        again = chosen & (workitems.c.state == ClaimState.LOST)
        return bool(connection.execute(update(workitems).where(again).values(**values, ended_at=None)).rowcount)
    connection.execute(workitems.insert().values(**values))
    return True


def open_claims(connection: Connection, source: str) -> list[Row[Any]]:
    """Claims whose end has not been confirmed, oldest first."""
    chosen = (workitems.c.source == source) & workitems.c.state.in_(_OPEN)
    return list(connection.execute(select(workitems).where(chosen).order_by(workitems.c.claimed_at)))


def claimed(connection: Connection, now: float, row: Row[Any]) -> None:
    """The manager has agreed."""
    if _set(connection, row, ClaimState.CLAIMED):
        _tell(connection, now, ledger.Kind.WORKITEM_CLAIMED, row)


def lost(connection: Connection, now: float, row: Row[Any], why: str) -> None:
    """The claim is void: nothing more is told about it."""
    _set(connection, row, ClaimState.LOST, ended_at=now, message=why)
    _tell(connection, now, ledger.Kind.WORKITEM_LOST, row, reason=why)


def ending(connection: Connection, row: Row[Any]) -> None:
    """What is to be said at the end has been accepted; only the change of state is left."""
    _set(connection, row, ClaimState.ENDING)


def told(connection: Connection, row: Row[Any], words: str) -> None:
    """The manager knows this progress."""
    connection.execute(update(workitems).where(_is(row)).values(told=words))


def ended(connection: Connection, now: float, row: Row[Any], state: StepState, words: str) -> None:
    """The manager has confirmed the end."""
    _set(connection, row, ClaimState.ENDED, ended_at=now, message=words)
    kind = ledger.Kind.WORKITEM_COMPLETED if state is StepState.COMPLETED else ledger.Kind.WORKITEM_CANCELED
    _tell(connection, now, kind, row, words=words)


def ask_to_cancel(connection: Connection, now: float, source: str, uid: str, asked_by: str) -> bool:
    """Stop what a claimed workitem has set off; return False where there is no open claim, or it was asked before.

    What is running is stopped, what has not begun will not begin. A result that is there already stands, and the
    workitem then ends as COMPLETED: nobody takes back what a radiologist may have read.
    """
    chosen = (workitems.c.uid == uid) & (workitems.c.source == source) & workitems.c.state.in_(_OPEN)
    row = connection.execute(select(workitems).where(chosen, workitems.c.cancel_asked_at.is_(None))).first()
    if row is None:
        return False
    connection.execute(update(workitems).where(_is(row)).values(cancel_asked_at=now))
    waiting = [job for job in _runs(connection, row) if job.state in (JobState.QUEUED, JobState.RUNNING)]
    stopped = [queue.cancel(connection, now, int(job.id)) for job in waiting]
    orders.withdraw(connection, source, uid)
    _tell(connection, now, ledger.Kind.WORKITEM_CANCEL_ASKED, row, asked_by=asked_by, stopped=len(stopped))
    return True


def standing(connection: Connection, now: float, row: Row[Any], ae_titles: dict[str, str], archive: str) -> Standing:
    """What has become of a claim.

    Parameters
    ----------
    ae_titles : dict
        Destination → AE title from which its objects can be retrieved.
    archive : str
        Where the input is fetched from; empty: nowhere.
    """
    uids = row.content["studies"]
    here = connection.execute(select(studies.c.state, studies.c.held_reason).where(studies.c.study_uid.in_(uids))).all()
    latest = {(job.study_uid, job.rule): job for job in _runs(connection, row) if not job.provisional}
    told = _status_jobs(connection, uids)
    # Where a status is still to tell of the runs, the work has not ended.
    telling = [Run(number, state, "") for number, state in told.items() if state in ("queued", "running")]
    runs = (*(Run(int(job.id), job.state, _problem(job)) for job in latest.values()), *telling)
    fetch = archive_studies.states(connection, archive, uids) if archive else []
    return Standing(
        study_here=len(here) == len(uids),
        complete=bool(here) and all(each.state == "complete" for each in here),
        held=any(each.held_reason is not None for each in here),
        fetch_failed=archive_studies.FAILED in fetch,
        cancel_asked=row.cancel_asked_at is not None,
        runs=runs,
        outputs=_outputs(connection, [*(run.job_id for run in runs), *told], ae_titles),
        seconds=now - row.claimed_at,
    )


def _status_jobs(connection: Connection, study_uids: Sequence[str]) -> dict[int, str]:
    """States of the jobs that tell what several runs of a study came to, by number."""
    chosen = jobs.c.study_uid.in_(study_uids) & (jobs.c.kind == JobKind.STATUS) & jobs.c.superseded_at.is_(None)
    return {int(row.id): str(row.state) for row in connection.execute(select(jobs.c.id, jobs.c.state).where(chosen))}


def _runs(connection: Connection, row: Row[Any]) -> list[Row[Any]]:
    """Runs that stem from a workitem, provisional ones too, oldest first."""
    chosen = (
        jobs.c.study_uid.in_(row.content["studies"])
        & jobs.c.rule.in_(row.content["rules"])
        & (jobs.c.kind == JobKind.RUN)
        & jobs.c.superseded_at.is_(None)
    )
    return list(connection.execute(select(jobs).where(chosen).order_by(jobs.c.id)))


def count_open(connection: Connection, source: str) -> int:
    """How many claims are open."""
    chosen = (workitems.c.source == source) & workitems.c.state.in_(_OPEN)
    return int(connection.execute(select(func.count()).select_from(workitems).where(chosen)).scalar_one())


def forget(connection: Connection, before: float) -> int:
    """Remove claims that ended before a time; return how many."""
    return int(connection.execute(delete(workitems).where(workitems.c.ended_at < before)).rowcount)


def _outputs(connection: Connection, job_ids: Sequence[int], ae_titles: dict[str, str]) -> tuple[Output, ...]:
    rows = connection.execute(
        select(objects, deliveries.c.destination, deliveries.c.state, deliveries.c.proof)
        .join(deliveries, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)
        .where(objects.c.job_id.in_(list(job_ids)), deliveries.c.replaced_by.is_(None))
        .order_by(deliveries.c.id)
    )
    return tuple(
        Output(
            job_id=int(row.job_id),
            sop_class_uid=row.sop_class_uid,
            sop_instance_uid=row.sop_instance_uid,
            series_uid=row.series_uid,
            study_uid=row.study_uid,
            destination_ae_title=ae_titles.get(row.destination, ""),
            state=row.state,
            settled=row.proof is not None or row.state == DeliveryState.COMMITTED,
        )
        for row in rows
    )


def _problem(job: Row[Any]) -> str:
    refusal = (job.result or {}).get("refusal") or {}
    if job.state in ("failed", "dead", "cancelled"):
        return str(job.error_code or job.state)
    return str(refusal.get("code") or "")


def _set(connection: Connection, row: Row[Any], state: ClaimState, **values: Any) -> bool:
    changed = update(workitems).where(_is(row), workitems.c.state != state).values(state=str(state), **values)
    return bool(connection.execute(changed).rowcount)


def _is(row: Row[Any]) -> Any:
    return (workitems.c.uid == row.uid) & (workitems.c.source == row.source)


def _tell(connection: Connection, now: float, kind: ledger.Kind, row: Row[Any], **facts: Any) -> None:
    code = row.content["code"]
    for study_uid in row.content["studies"] or [None]:
        ledger.record(
            connection,
            now,
            kind,
            study_uid=study_uid,
            workitem=row.uid,
            manager=row.source,
            code=f"{code['value']} {code['scheme']}".strip(),
            **facts,
        )
