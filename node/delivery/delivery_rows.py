"""Rows of deliveries: what the outbox and the proof of storage share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, update

from node.archive import ledger
from node.archive.tables import deliveries, jobs, objects
from node.delivery.delivery_states import DeliveryState, Outdated
from node.errors import NotStored

SUPERSEDED = "superseded by a correction"
DISCARDED = "discarded by an operator after a pause"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A claimed delivery with its object.

    Attributes
    ----------
    attempt : int
        Number of this attempt, from 1; already counted.
    path : str
        Relative to the outbox folder.
    digest : str
        Hex SHA-256 of the whole file: what must arrive.
    in_doubt : bool
        An earlier attempt had no answer: the destination may have the object.
    """

    id: int
    destination: str
    priority: int
    attempt: int
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_uid: str
    series_uid: str
    job_id: int
    role: str
    path: str
    digest: str
    size: int
    in_doubt: bool


def with_object() -> Any:
    """SELECT of deliveries, each with its object."""
    of_object = ("sop_class_uid", "series_uid", "study_uid", "transfer_syntax_uid", "job_id", "role", "profile")
    columns = [objects.c[name] for name in (*of_object, "path", "digest", "size", "frozen_at", "removed_at")]
    return select(deliveries, *columns).join(objects, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)


def rows_where(connection: Connection, *conditions: ColumnElement[bool]) -> list[Row[Any]]:
    """Deliveries with their objects, locked where the database locks rows."""
    statement = with_object().where(*conditions).order_by(deliveries.c.id)
    return list(connection.execute(statement.with_for_update(of=deliveries)))


def locked(connection: Connection, delivery_id: int) -> Row[Any]:
    """One delivery with its object; raises NotStored."""
    rows = rows_where(connection, deliveries.c.id == delivery_id)
    if not rows:
        raise NotStored(f"there is no delivery {delivery_id}")
    return rows[0]


def as_delivery(row: Row[Any], *, attempt: int) -> Delivery:
    """Row of :func:`with_object` as a delivery."""
    taken = {name: getattr(row, name) for name in Delivery.__slots__ if name != "attempt"}
    return Delivery(**taken, attempt=attempt)


def mark_failed(
    connection: Connection,
    now: float,
    row: Row[Any],
    *,
    status: int | None,
    message: str,
    dead: bool,
    not_before: float,
) -> DeliveryState:
    """Mark a delivery failed or dead; withdrawn where its run was superseded, or its object replaced, meanwhile."""
    if (by := replaced_by(connection, row.id)) is not None:
        withdraw_replaced(connection, now, row, by=by)
        return DeliveryState.WITHDRAWN
    if superseded(connection, row.job_id):
        withdraw(connection, now, row, reached=may_be_there(connection, row))
        return DeliveryState.WITHDRAWN
    state = DeliveryState.DEAD if dead else DeliveryState.FAILED
    set_values(
        connection,
        row.id,
        state=str(state),
        status=status,
        message=message,
        not_before=not_before,
        transaction_uid=None,
        proof=None,
    )
    kind = ledger.Kind.DELIVERY_DEAD if dead else ledger.Kind.DELIVERY_FAILED
    record(connection, now, kind, row, status=status, message=message, attempt=row.attempts)
    return state


def superseded(connection: Connection, job_id: int) -> bool:
    """Whether an image that a run took was corrected since.

    A statement of its own, after the delivery is locked: on PostgreSQL one that waited for the lock may join what was
    true before it waited.
    """
    statement = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.superseded_at.is_not(None))
    return connection.execute(statement).first() is not None


def replaced_by(connection: Connection, delivery_id: int) -> int | None:
    """Number of the job whose set took the place of a delivery's object; None where it still stands."""
    statement = select(deliveries.c.replaced_by).where(deliveries.c.id == delivery_id)
    found = connection.execute(statement).scalar_one_or_none()
    return None if found is None else int(found)


def withdraw_replaced(connection: Connection, now: float, row: Row[Any], *, by: int) -> None:
    """End a delivery that another set has taken the place of, without sending it."""
    message = f"replaced by the result of job {by}"
    set_values(
        connection, row.id, state=str(DeliveryState.WITHDRAWN), message=message, not_before=0.0, transaction_uid=None
    )
    record(connection, now, ledger.Kind.DELIVERY_WITHDRAWN, row, message=message, before=row.state)


def may_be_there(connection: Connection, row: Row[Any]) -> bool:
    """Whether the destination may have the object whatever became of the latest attempt."""
    if row.sent_at is not None or row.state == DeliveryState.UNKNOWN or row.in_doubt:
        return True
    events = select(ledger.ledger.c.detail).where(
        ledger.ledger.c.sop_instance_uid == row.sop_instance_uid,
        ledger.ledger.c.kind == ledger.Kind.DELIVERY_UNKNOWN,
    )
    return any(detail.get("delivery") == row.id for detail in connection.execute(events).scalars())


def withdraw(connection: Connection, now: float, row: Row[Any], *, reached: bool) -> None:
    """End a delivery of a superseded run without sending it.

    Parameters
    ----------
    reached : bool
        An earlier attempt may have brought the object to its destination.
    """
    set_values(
        connection, row.id, state=str(DeliveryState.WITHDRAWN), message=SUPERSEDED, not_before=0.0, transaction_uid=None
    )
    record(connection, now, ledger.Kind.DELIVERY_WITHDRAWN, row, message=SUPERSEDED, before=row.state)
    if reached:
        mark_outdated(connection, now, row)


def discard(connection: Connection, now: float, row: Row[Any]) -> None:
    """End a delivery that waits, because an operator does not want what waited for the end of a pause."""
    values = {"state": str(DeliveryState.WITHDRAWN), "message": DISCARDED, "not_before": 0.0, "transaction_uid": None}
    set_values(connection, row.id, **values)
    record(connection, now, ledger.Kind.DELIVERY_DISCARDED, row, message=DISCARDED, before=row.state)


def mark_outdated(connection: Connection, now: float, row: Row[Any]) -> None:
    """Note that the destination has, or may have, an object with an old identity. Said once."""
    fresh = (deliveries.c.id == row.id) & deliveries.c.outdated.is_(None)
    if connection.execute(update(deliveries).where(fresh).values(outdated=str(Outdated.OPEN))).rowcount:
        record(connection, now, ledger.Kind.DELIVERY_OUTDATED, row, state=row.state)


def set_values(connection: Connection, delivery_id: int, **values: Any) -> None:
    """Change columns of a delivery."""
    connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))


def record(connection: Connection, now: float, kind: ledger.Kind, row: Row[Any], **detail: Any) -> None:
    """Write a ledger row about a delivery."""
    ledger.record(
        connection,
        now,
        kind,
        study_uid=row.study_uid,
        job_id=row.job_id,
        sop_instance_uid=row.sop_instance_uid,
        delivery=row.id,
        destination=row.destination,
        **detail,
    )
