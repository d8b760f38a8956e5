"""Proof of storage by other means than commitment, as it changes deliveries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy import func as sql

from node.archive import ledger
from node.archive.pauses import delivery_is_paused
from node.archive.tables import deliveries, objects
from node.delivery.delivery_rows import Delivery, as_delivery, mark_failed, record, rows_where, set_values, with_object
from node.delivery.delivery_states import DeliveryState, Proven

NOT_LISTED = "the destination answered with success, and does not list the object"
# A destination may index what it stores a little later.
_LOOK_AGAIN_SECONDS = (2.0, 15.0, 120.0)


@dataclass(frozen=True, slots=True)
class Unproven:
    """A stored delivery for which nothing is under way.

    Attributes
    ----------
    asked : int
        Commitment requests that had no answer.
    """

    delivery: Delivery
    asked: int


def awaiting_proof(connection: Connection, now: float, destination: str, limit: int) -> list[Unproven]:
    """Stored deliveries that nothing proves yet and for which no commitment request is open."""
    rows = connection.execute(
        with_object()
        .where(*_unproven(destination), deliveries.c.ask_at <= now, ~delivery_is_paused())
        .order_by(deliveries.c.priority, deliveries.c.id)
        .limit(limit)
    )
    return [Unproven(as_delivery(row, attempt=row.attempts), row.proof_asked) for row in rows]


def next_question(connection: Connection, destination: str) -> float | None:
    """When the next stored delivery is to be asked for; None where none is."""
    statement = select(sql.min(deliveries.c.ask_at)).join(objects)
    return connection.execute(statement.where(*_unproven(destination), ~delivery_is_paused())).scalar_one_or_none()


def verified(connection: Connection, now: float, delivery_ids: Collection[int]) -> None:
    """The destination lists the objects at instance level."""
    for row in _still_unproven(connection, delivery_ids):
        set_values(connection, row.id, proof=str(Proven.QUERY), proven_at=now)
        record(connection, now, ledger.Kind.DELIVERY_VERIFIED, row)


def not_listed(
    connection: Connection, now: float, delivery_ids: Collection[int], *, maximum_attempts: int
) -> list[int]:
    """The destination does not list the objects. Look again; then send each once more; then it is unverifiable.

    Returns
    -------
    list of int
        Those that are sent again.
    """
    again = []
    for row in _still_unproven(connection, delivery_ids):
        if row.looked < len(_LOOK_AGAIN_SECONDS):
            set_values(connection, row.id, looked=row.looked + 1, ask_at=now + _LOOK_AGAIN_SECONDS[row.looked])
        elif row.attempts < 2 <= maximum_attempts:
            set_values(connection, row.id, looked=0)
            mark_failed(connection, now, row, status=row.status, message=NOT_LISTED, dead=False, not_before=now)
            again.append(row.id)
        else:
            _unverifiable(connection, now, row, NOT_LISTED)
    return again


def mark_unverifiable(connection: Connection, now: float, delivery_ids: Collection[int], why: str) -> None:
    """Nothing will prove that the destination has the objects."""
    for row in _still_unproven(connection, delivery_ids):
        _unverifiable(connection, now, row, why)


def ask_later(connection: Connection, delivery_ids: Collection[int], *, ask_at: float) -> None:
    """The destination could not answer now."""
    for row in _still_unproven(connection, delivery_ids):
        set_values(connection, row.id, ask_at=ask_at)


def _unverifiable(connection: Connection, now: float, row: Row[Any], why: str) -> None:
    message = f"{row.message}; {why}" if row.message else why
    set_values(connection, row.id, proof=str(Proven.UNVERIFIABLE), message=message)
    record(connection, now, ledger.Kind.DELIVERY_UNVERIFIABLE, row, message=why)


def _unproven(destination: str) -> tuple[Any, ...]:
    return (
        deliveries.c.destination == destination,
        deliveries.c.state == DeliveryState.STORED,
        deliveries.c.transaction_uid.is_(None),
        deliveries.c.proof.is_(None),
    )


def _still_unproven(connection: Connection, delivery_ids: Collection[int]) -> list[Row[Any]]:
    chosen = deliveries.c.id.in_(list(delivery_ids))
    return rows_where(connection, chosen, deliveries.c.state == DeliveryState.STORED, deliveries.c.proof.is_(None))
