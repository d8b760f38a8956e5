"""The outbox: frozen objects, and for each destination of each object one delivery with its proof.

::

    queued ──claim──▶ sending ──stored──▶ stored ──commitment──▶ committed
      ▲                  │──unknown──▶ unknown ──claim──▶ sending  (asked whether it has it; else the same bytes again)
      │                  │──failed, passing──▶ failed ──claim──▶ sending
    replay               └──failed, for good──▶ dead

A correction of an image that the run took withdraws what waits: queued, unknown, failed ──▶ withdrawn, for good.
Sent is not stored, and stored is not proven: only a commitment makes a delivery ``committed``. What is known beside it
stands in ``proof`` (:class:`~node.delivery.delivery_states.Proven`).
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, func, select, true

from node.archive import ledger, tables
from node.archive.pauses import delivery_is_paused
from node.archive.tables import deliveries
from node.delivery.commitments import (
    CommitmentAnswer,
    FailureReason,
    expire_commitments,
    open_commitment,
    resolve_commitment,
)
from node.delivery.delivery_rows import (
    Delivery,
    as_delivery,
    locked,
    mark_failed,
    mark_outdated,
    may_be_there,
    record,
    replaced_by,
    rows_where,
    set_values,
    superseded,
    with_object,
    withdraw,
    withdraw_replaced,
)
from node.delivery.delivery_states import WAITING, DeliveryState
from node.delivery.freezing import FrozenObject, freeze
from node.delivery.proofs import awaiting_proof, mark_unverifiable, not_listed, verified
from node.delivery.replaying import replay

__all__ = [
    "CommitmentAnswer",
    "Delivery",
    "DeliveryState",
    "FailureReason",
    "FrozenObject",
    "Verdict",
    "awaiting_proof",
    "claim",
    "expire_commitments",
    "failed",
    "found",
    "freeze",
    "get",
    "give_back",
    "list_deliveries",
    "list_objects",
    "mark_unverifiable",
    "next_due",
    "not_listed",
    "open_commitment",
    "paused_among",
    "recover",
    "replay",
    "resolve_commitment",
    "stored",
    "unknown",
    "verdict",
    "verified",
    "withdraw_claimed",
]


FOUND = "no answer had come, and the destination has it"
_STAT = 0


def claim(
    connection: Connection, now: float, destination: str, limit: int, *, stat_only: bool = False
) -> list[Delivery]:
    """Take up to ``limit`` due deliveries for a destination, most urgent first, and count the attempt.

    Nothing of a held study leaves, nothing of a run of which an image was corrected since, and nothing that is paused.

    Parameters
    ----------
    stat_only : bool
        Only what is STAT.
    """
    urgent = deliveries.c.priority <= _STAT if stat_only else true()
    rows = connection.execute(
        with_object()
        .where(
            deliveries.c.destination == destination,
            deliveries.c.state.in_([str(state) for state in WAITING]),
            deliveries.c.not_before <= now,
            urgent,
            ~_barred(),
        )
        .order_by(deliveries.c.priority, deliveries.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=deliveries)
    ).all()
    for row in rows:
        set_values(
            connection,
            row.id,
            state=str(DeliveryState.SENDING),
            attempts=row.attempts + 1,
            status=None,
            message=None,
            transaction_uid=None,
            proof=None,
            ask_at=0.0,
        )
        record(connection, now, ledger.Kind.DELIVERY_SENDING, row, attempt=row.attempts + 1)
    return [as_delivery(row, attempt=row.attempts + 1) for row in rows]


def recover(connection: Connection, now: float, destination: str, *, among: Collection[int] | None = None) -> list[int]:
    """Mark what a dead sender left in the air as unknown and due at once. Call it before the first claim.

    Parameters
    ----------
    among : collection of int or None
        Only these deliveries; None: every one.
    """
    chosen = true() if among is None else deliveries.c.id.in_(list(among))
    sending = deliveries.c.state == DeliveryState.SENDING
    rows = rows_where(connection, deliveries.c.destination == destination, sending, chosen)
    for row in rows:
        _unknown(connection, now, row, "the sender ended before the answer came", not_before=now)
    return [row.id for row in rows]


class Verdict(StrEnum):
    """Whether a claimed delivery may leave."""

    WANTED = "wanted"
    SUPERSEDED = "superseded"
    PAUSED = "paused"


def verdict(connection: Connection, delivery: Delivery) -> Verdict:
    """Whether a claimed delivery may still be sent: ask right before sending."""
    if superseded(connection, delivery.job_id) or replaced_by(connection, delivery.id) is not None:
        return Verdict.SUPERSEDED
    return Verdict.PAUSED if paused_among(connection, [delivery.id]) else Verdict.WANTED


def paused_among(connection: Connection, delivery_ids: Collection[int]) -> set[int]:
    """Those of some deliveries that a pause keeps from leaving."""
    joined = select(deliveries.c.id).join(tables.objects).where(deliveries.c.id.in_(list(delivery_ids)))
    return set(connection.execute(joined.where(delivery_is_paused())).scalars())


def give_back(connection: Connection, now: float, delivery_id: int, why: str, *, not_before: float) -> None:
    """A claimed delivery was not sent after all, for no fault of its own: it waits again, and no attempt is counted."""
    row = locked(connection, delivery_id)
    if row.state != DeliveryState.SENDING:
        return
    attempts = max(0, row.attempts - 1)
    set_values(connection, row.id, state=str(DeliveryState.QUEUED), attempts=attempts, not_before=not_before)
    record(connection, now, ledger.Kind.DELIVERY_RETURNED, row, message=why)
    if row.replaced_by is not None:
        withdraw_replaced(connection, now, row, by=row.replaced_by)
    elif superseded(connection, row.job_id):
        withdraw(connection, now, row, reached=may_be_there(connection, row))


def found(connection: Connection, now: float, delivery_id: int) -> None:
    """An earlier attempt had no answer, and the destination, asked, has the object: it need not be sent again."""
    row = locked(connection, delivery_id)
    if row.state != DeliveryState.SENDING:
        return
    values = {"state": str(DeliveryState.STORED), "message": FOUND, "sent_at": now, "in_doubt": False}
    set_values(connection, row.id, attempts=max(1, row.attempts - 1), **values)
    record(connection, now, ledger.Kind.DELIVERY_FOUND, row)
    if superseded(connection, row.job_id):
        mark_outdated(connection, now, row)


def withdraw_claimed(connection: Connection, now: float, delivery_id: int) -> None:
    """End a delivery that was claimed, and not sent because its run was superseded meanwhile."""
    row = locked(connection, delivery_id)
    if row.state != DeliveryState.SENDING:
        return
    if row.replaced_by is not None:
        withdraw_replaced(connection, now, row, by=row.replaced_by)
    else:
        withdraw(connection, now, row, reached=may_be_there(connection, row))


def stored(
    connection: Connection,
    now: float,
    delivery_id: int,
    status: int,
    *,
    note: str = "",
    sent_syntax_uid: str = "",
    sent_digest: str = "",
) -> bool:
    """The destination answered with success, or a warning (``status`` says which).

    Parameters
    ----------
    note : str
        What the warning means.
    sent_syntax_uid, sent_digest : str
        Transfer syntax and hex SHA-256 of the data set as sent, where it was not the frozen one.

    Returns
    -------
    bool
        False where a correction came while it was on the wire: the destination now has an old identity.
    """
    row = locked(connection, delivery_id)
    if row.state != DeliveryState.COMMITTED:
        values = {"state": str(DeliveryState.STORED), "status": status, "sent_at": now, "in_doubt": False}
        set_values(connection, row.id, message=note or None, sent_syntax_uid=sent_syntax_uid or None, **values)
        transcoded = {"sent_in": sent_syntax_uid, "sent_digest": sent_digest} if sent_syntax_uid else {}
        warned = {"warning": note} if note else {}
        record(connection, now, ledger.Kind.DELIVERY_STORED, row, status=status, **warned, **transcoded)
    if superseded(connection, row.job_id):
        mark_outdated(connection, now, row)
        return False
    return True


def unknown(
    connection: Connection,
    now: float,
    delivery_id: int,
    message: str,
    *,
    not_before: float,
    maximum_attempts: int | None = None,
) -> None:
    """No answer came: the object may be there or not. It is asked for, and sent again; dead after ``maximum_attempts``."""
    row = locked(connection, delivery_id)
    if row.state != DeliveryState.SENDING:
        return
    _unknown(connection, now, row, message, not_before=not_before)
    if maximum_attempts is not None and row.attempts >= maximum_attempts and not superseded(connection, row.job_id):
        words = f"{message}; no answer in {row.attempts} attempts, the destination may have it"
        mark_failed(connection, now, row, status=None, message=words, dead=True, not_before=not_before)


def failed(
    connection: Connection,
    now: float,
    delivery_id: int,
    *,
    status: int | None,
    message: str,
    transient: bool,
    not_before: float,
    maximum_attempts: int | None = None,
) -> DeliveryState:
    """The attempt failed, and the destination has not got the object. Return the state the delivery has then.

    Parameters
    ----------
    status : int or None
        DIMSE status; None where there was no answer to speak of, as without a connection.
    transient : bool
        Whether to try again at ``not_before``; else, or after ``maximum_attempts``, the delivery is dead.
    """
    row = locked(connection, delivery_id)
    if row.state not in (DeliveryState.SENDING, DeliveryState.UNKNOWN):
        return DeliveryState(row.state)
    used_up = maximum_attempts is not None and row.attempts >= maximum_attempts
    return mark_failed(
        connection, now, row, status=status, message=message, dead=used_up or not transient, not_before=not_before
    )


def get(connection: Connection, delivery_id: int) -> Row[Any] | None:
    """Row of a delivery with its object."""
    return connection.execute(with_object().where(deliveries.c.id == delivery_id)).one_or_none()


def list_deliveries(
    connection: Connection,
    *,
    states: Collection[DeliveryState] | None = None,
    destination: str | None = None,
    study_uid: str | None = None,
    job_id: int | None = None,
    limit: int = 100,
) -> list[Row[Any]]:
    """Deliveries with their objects, the latest first."""
    statement = with_object().order_by(deliveries.c.id.desc()).limit(limit)
    if states is not None:
        statement = statement.where(deliveries.c.state.in_([str(state) for state in states]))
    for column, value in (
        (deliveries.c.destination, destination),
        (tables.objects.c.study_uid, study_uid),
        (tables.objects.c.job_id, job_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    return list(connection.execute(statement))


def list_objects(connection: Connection, *, job_id: int) -> list[Row[Any]]:
    """Frozen objects of a job."""
    statement = select(tables.objects).where(tables.objects.c.job_id == job_id)
    return list(connection.execute(statement.order_by(tables.objects.c.role, tables.objects.c.sop_instance_uid)))


def next_due(connection: Connection, destination: str) -> float | None:
    """When the next delivery to a destination is due, in seconds since the epoch; None where none waits."""
    waiting = deliveries.c.state.in_([str(state) for state in WAITING])
    return connection.execute(
        select(func.min(deliveries.c.not_before))
        .join(tables.objects, tables.objects.c.sop_instance_uid == deliveries.c.sop_instance_uid)
        .where(deliveries.c.destination == destination, waiting, ~_barred())
    ).scalar_one_or_none()


def _barred() -> ColumnElement[bool]:
    """Condition on a statement that joins objects: their study is held, their run superseded, another set took their
    place, or something is paused."""
    study = tables.studies.c.study_uid == tables.objects.c.study_uid
    run = tables.jobs.c.id == tables.objects.c.job_id
    held = exists().where(study, tables.studies.c.held_reason.is_not(None))
    corrected = exists().where(run, tables.jobs.c.superseded_at.is_not(None))
    return held | corrected | deliveries.c.replaced_by.is_not(None) | delivery_is_paused()


def _unknown(connection: Connection, now: float, row: Row[Any], message: str, *, not_before: float) -> None:
    values = {"state": str(DeliveryState.UNKNOWN), "message": message, "not_before": not_before, "in_doubt": True}
    set_values(connection, row.id, **values)
    record(connection, now, ledger.Kind.DELIVERY_UNKNOWN, row, message=message)
    if (by := replaced_by(connection, row.id)) is not None:
        withdraw_replaced(connection, now, row, by=by)
    elif superseded(connection, row.job_id):
        withdraw(connection, now, row, reached=True)
