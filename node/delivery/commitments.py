"""Storage commitment requests and their answers (PS3.4 annex J), as they change deliveries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select, update

from node.archive import ledger
from node.archive.tables import commitments, deliveries
from node.archive.upsert import insert_missing
from node.delivery.delivery_rows import (
    mark_failed,
    mark_outdated,
    record,
    rows_where,
    set_values,
    superseded,
)
from node.delivery.delivery_states import DeliveryState, Proven


class FailureReason:
    """Failure Reason (0008,1197) of Storage Commitment, PS3.3 C.14.1.1, after which sending again cannot help."""

    CLASS_INSTANCE_CONFLICT = 0x0119
    SOP_CLASS_NOT_SUPPORTED = 0x0122


_HOPELESS = frozenset({FailureReason.CLASS_INSTANCE_CONFLICT, FailureReason.SOP_CLASS_NOT_SUPPORTED})


@dataclass(frozen=True, slots=True)
class CommitmentAnswer:
    """What an answer to a commitment request changed.

    Attributes
    ----------
    known : bool
        False where no such transaction was ever opened; then nothing was changed.
    committed, failed : tuple of str
        SOP Instance UIDs whose delivery changed its state.
    """

    known: bool
    committed: tuple[str, ...] = ()
    failed: tuple[str, ...] = field(default=())


def open_commitment(
    connection: Connection,
    now: float,
    transaction_uid: str,
    destination: str,
    delivery_ids: Sequence[int],
    due_at: float,
) -> None:
    """Note a commitment request before it is sent, so that an answer never comes too early."""
    row = {"transaction_uid": transaction_uid, "destination": destination}
    insert_missing(connection, commitments, {**row, "requested_at": now, "due_at": due_at}, unique=["transaction_uid"])
    for found in rows_where(
        connection,
        deliveries.c.id.in_(list(delivery_ids)),
        deliveries.c.destination == destination,
        deliveries.c.state == DeliveryState.STORED,
    ):
        set_values(connection, found.id, transaction_uid=transaction_uid)
        record(connection, now, ledger.Kind.COMMITMENT_REQUESTED, found, transaction=transaction_uid)


def resolve_commitment(
    connection: Connection,
    now: float,
    transaction_uid: str,
    committed: Collection[str],
    failed: Mapping[str, int],
    *,
    retry_seconds: float = 60.0,
    maximum_attempts: int | None = None,
) -> CommitmentAnswer:
    """Take an answer (PS3.4 J.3.3). The same answer again changes nothing; one to an unknown transaction neither.

    A late "committed" counts even where the request had expired: it is proof all the same. A late "failed" does not
    touch what was asked for anew since.

    Parameters
    ----------
    committed : collection of str
        SOP Instance UIDs the destination has taken responsibility for.
    failed : mapping
        SOP Instance UID → Failure Reason (0008,1197).
    retry_seconds : float
        When a failed object is sent again.
    maximum_attempts : int or None
        Sendings after which a failed object's delivery is dead.
    """
    request = connection.execute(
        select(commitments).where(commitments.c.transaction_uid == transaction_uid).with_for_update()
    ).one_or_none()
    if request is None:
        return CommitmentAnswer(known=False)
    proven = _prove(connection, now, request, committed)
    missing = _deny(connection, now, request, failed, retry_at=now + retry_seconds, maximum_attempts=maximum_attempts)
    if request.answered_at is None:
        _answer(connection, transaction_uid, answered_at=now, outcome="failed" if failed else "committed")
    return CommitmentAnswer(known=True, committed=proven, failed=missing)


def expire_commitments(connection: Connection, now: float) -> list[str]:
    """Give up waiting where the answer is overdue, so that it is asked again; return the transactions."""
    overdue = connection.execute(
        select(commitments)
        .where(commitments.c.answered_at.is_(None), commitments.c.outcome.is_(None), commitments.c.due_at < now)
        .order_by(commitments.c.requested_at, commitments.c.transaction_uid)
        .with_for_update(skip_locked=True)
    ).all()
    for request in overdue:
        _answer(connection, request.transaction_uid, outcome="expired")
        for row in rows_where(
            connection,
            deliveries.c.transaction_uid == request.transaction_uid,
            deliveries.c.state == DeliveryState.STORED,
        ):
            set_values(connection, row.id, transaction_uid=None, proof_asked=row.proof_asked + 1)
            record(connection, now, ledger.Kind.COMMITMENT_EXPIRED, row, transaction=request.transaction_uid)
    return [request.transaction_uid for request in overdue]


def _prove(connection: Connection, now: float, request: Row[Any], committed: Collection[str]) -> tuple[str, ...]:
    rows = rows_where(
        connection,
        deliveries.c.destination == request.destination,
        deliveries.c.sop_instance_uid.in_(list(committed)),
        # A delivery that was replayed and not sent since is not proven by an answer about what came before it.
        deliveries.c.state.not_in([str(DeliveryState.COMMITTED), str(DeliveryState.QUEUED)]),
    )
    for row in rows:
        values = {"state": str(DeliveryState.COMMITTED), "proof": str(Proven.COMMITMENT), "in_doubt": False}
        # The words of a warning stay; those of a failure that was none go.
        said = row.message if row.state == DeliveryState.STORED else None
        set_values(connection, row.id, proven_at=now, message=said, **values)
        facts = {"transaction": request.transaction_uid, "committed": True}
        record(connection, now, ledger.Kind.COMMITMENT_ANSWERED, row, **facts)
        if superseded(connection, row.job_id):
            mark_outdated(connection, now, row)
    return tuple(row.sop_instance_uid for row in rows)


def _deny(
    connection: Connection,
    now: float,
    request: Row[Any],
    failed: Mapping[str, int],
    *,
    retry_at: float,
    maximum_attempts: int | None,
) -> tuple[str, ...]:
    rows = rows_where(
        connection,
        deliveries.c.destination == request.destination,
        deliveries.c.transaction_uid == request.transaction_uid,
        deliveries.c.sop_instance_uid.in_(list(failed)),
        deliveries.c.state == DeliveryState.STORED,
    )
    for row in rows:
        reason = failed[row.sop_instance_uid]
        facts = {"transaction": request.transaction_uid, "committed": False, "reason": reason}
        record(connection, now, ledger.Kind.COMMITMENT_ANSWERED, row, **facts)
        used_up = maximum_attempts is not None and row.attempts >= maximum_attempts
        mark_failed(
            connection,
            now,
            row,
            status=row.status,
            message=f"the destination did not commit to the object, Failure Reason {reason:04X}H",
            dead=used_up or reason in _HOPELESS,
            not_before=retry_at,
        )
    return tuple(row.sop_instance_uid for row in rows)


def _answer(connection: Connection, transaction_uid: str, **values: Any) -> None:
    connection.execute(update(commitments).where(commitments.c.transaction_uid == transaction_uid).values(**values))
