"""Queueing deliveries again, by an operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row

from node.archive import ledger
from node.archive.tables import deliveries
from node.delivery.assessed import assessed
from node.delivery.delivery_rows import locked, record, rows_where, set_values, superseded
from node.delivery.delivery_states import DeliveryState
from node.errors import UsageError

LOST = (DeliveryState.DEAD, DeliveryState.FAILED, DeliveryState.UNKNOWN)


def replay(
    connection: Connection,
    now: float,
    *,
    delivery_id: int | None = None,
    destination: str | None = None,
    since: float | None = None,
    until: float | None = None,
) -> list[int]:
    """Queue deliveries again, with the same bytes and all their attempts; return their numbers.

    Parameters
    ----------
    delivery_id : int or None
        This one, whatever became of it, unless it is being sent.
    destination : str or None
        Every dead, failed or unknown delivery to this destination.
    since, until : float or None
        Every dead, failed or unknown delivery that was filed in this time, in seconds since the epoch; together with
        ``destination``, of those.

    Raises
    ------
    NotStored
        There is no such delivery.
    UsageError
        The delivery is being sent, its run was superseded, its local copy is gone, or it is not said which are meant.
    """
    several = destination is not None or since is not None or until is not None
    if (delivery_id is None) != several:
        raise UsageError("name either a delivery, or a destination or a time")
    rows = _many(connection, destination, since, until) if delivery_id is None else [_one(connection, delivery_id)]
    for row in rows:
        set_values(
            connection,
            row.id,
            state=str(DeliveryState.QUEUED),
            attempts=0,
            not_before=now,
            message=None,
            transaction_uid=None,
            proven_at=None,
            proof=None,
            proof_asked=0,
            looked=0,
            # Who asks for it wants it sent, whatever the destination says that it has.
            in_doubt=False,
        )
        record(connection, now, ledger.Kind.DELIVERY_REPLAYED, row, before=row.state)
    return [row.id for row in rows]


def _one(connection: Connection, delivery_id: int) -> Row[Any]:
    row = locked(connection, delivery_id)
    if row.state == DeliveryState.SENDING:
        raise UsageError(f"delivery {delivery_id} is being sent in this moment")
    if superseded(connection, row.job_id):
        raise UsageError(f"delivery {delivery_id} carries an identity that was corrected since; it is not sent again")
    if row.replaced_by is not None:
        raise UsageError(f"delivery {delivery_id} was replaced by job {row.replaced_by}; it is not sent again")
    if assessed(connection, [row.sop_instance_uid]):
        raise UsageError(
            f"delivery {delivery_id}: the object was rejected at an archive or edited by a reader; it is not sent again. "
            "`ainode retry JOB` makes a new result"
        )
    if row.removed_at is not None:
        raise UsageError(f"delivery {delivery_id}: its local copy went after every destination was proven to have it")
    return row


def _many(
    connection: Connection, destination: str | None, since: float | None, until: float | None
) -> Sequence[Row[Any]]:
    chosen: list[ColumnElement[bool]] = [deliveries.c.state.in_([str(state) for state in LOST])]
    if destination is not None:
        chosen.append(deliveries.c.destination == destination)
    if since is not None:
        chosen.append(deliveries.c.created_at >= since)
    if until is not None:
        chosen.append(deliveries.c.created_at < until)
    chosen.append(deliveries.c.replaced_by.is_(None))
    rows = [row for row in rows_where(connection, *chosen) if not superseded(connection, row.job_id)]
    judged = assessed(connection, [row.sop_instance_uid for row in rows])
    return [row for row in rows if row.sop_instance_uid not in judged]
