"""The outbox: frozen objects, and for each destination of each object one delivery with its proof.

::

    queued ──claim──▶ sending ──stored──▶ stored ──commitment──▶ committed
      ▲                  │──unknown──▶ unknown ──claim──▶ sending      (no answer: the same bytes are sent again)
      │                  │──failed, passing──▶ failed ──claim──▶ sending
    replay               └──failed, for good──▶ dead

A correction of an image that the run took withdraws what waits: queued, unknown, failed ──▶ withdrawn, for good.
Sent is not stored, and stored is not proven: only a commitment makes a delivery ``committed``. A destination that is
asked for none leaves it ``stored``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Row, exists, func, select

from node.archive import ledger, tables
from node.archive.tables import deliveries
from node.archive.upsert import insert_missing
from node.delivery.assessed import assessed
from node.delivery.commitments import (
    CommitmentAnswer,
    FailureReason,
    awaiting_commitment,
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
from node.errors import FrozenObjectDiffers, UsageError

__all__ = [
    "CommitmentAnswer",
    "Delivery",
    "DeliveryState",
    "FailureReason",
    "FrozenObject",
    "awaiting_commitment",
    "claim",
    "expire_commitments",
    "failed",
    "freeze",
    "get",
    "list_deliveries",
    "list_objects",
    "next_due",
    "open_commitment",
    "recover",
    "replay",
    "resolve_commitment",
    "still_wanted",
    "stored",
    "unknown",
    "withdraw_claimed",
]


class FrozenObject(Protocol):
    """What is frozen: :class:`node.jobs.specification.WrittenObject`, with its path relative to the outbox."""

    @property
    def role(self) -> str: ...
    @property
    def profile(self) -> str: ...
    @property
    def path(self) -> Any: ...
    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...


def freeze(
    connection: Connection,
    now: float,
    *,
    job_id: int,
    study_uid: str,
    objects: Sequence[FrozenObject],
    destinations: Mapping[str, Sequence[str]],
    priority: int,
) -> list[int]:
    """Make objects final and file their deliveries, in the transaction that ends their job.

    Parameters
    ----------
    objects : sequence
        Files already in the outbox folder and synced; ``path`` relative to it.
    destinations : mapping
        Profile → names of the destinations that use it. A profile without any (a shadow rule) is frozen, not sent.

    Returns
    -------
    list of int
        Numbers of the new deliveries. Freezing the same bytes again adds nothing.

    Raises
    ------
    FrozenObjectDiffers
        A UID was frozen before with other bytes. Roll the transaction back.
    """
    new: list[int] = []
    for written in objects:
        if _freeze_one(connection, now, written, job_id=job_id, study_uid=study_uid):
            ledger.record(
                connection,
                now,
                ledger.Kind.OBJECT_FROZEN,
                study_uid=study_uid,
                job_id=job_id,
                sop_instance_uid=written.sop_instance_uid,
                role=written.role,
                profile=written.profile,
                digest=written.digest,
                size=written.size,
            )
        for destination in destinations.get(written.profile, ()):
            row = {"sop_instance_uid": written.sop_instance_uid, "destination": destination}
            filed = {"state": str(DeliveryState.QUEUED), "priority": int(priority), "attempts": 0}
            added = insert_missing(
                connection,
                deliveries,
                {**row, **filed, "not_before": now, "created_at": now},
                unique=list(row),
            )
            if added is not None:
                new.append(int(added))
    return new


def claim(connection: Connection, now: float, destination: str, limit: int) -> list[Delivery]:
    """Take up to ``limit`` due deliveries for a destination, most urgent first, and count the attempt.

    Nothing of a held study leaves, and nothing of a run of which an image was corrected since.
    """
    rows = connection.execute(
        with_object()
        .where(
            deliveries.c.destination == destination,
            deliveries.c.state.in_([str(state) for state in WAITING]),
            deliveries.c.not_before <= now,
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
        )
        record(connection, now, ledger.Kind.DELIVERY_SENDING, row, attempt=row.attempts + 1)
    return [as_delivery(row, attempt=row.attempts + 1) for row in rows]


def recover(connection: Connection, now: float, destination: str) -> list[int]:
    """Mark what a dead sender left in the air as unknown and due at once. Call it before the first claim."""
    rows = rows_where(connection, deliveries.c.destination == destination, deliveries.c.state == DeliveryState.SENDING)
    for row in rows:
        _unknown(connection, now, row, "the sender ended before the answer came", not_before=now)
    return [row.id for row in rows]


def still_wanted(connection: Connection, delivery: Delivery) -> bool:
    """Whether a claimed delivery may still be sent: ask right before sending."""
    return not superseded(connection, delivery.job_id) and replaced_by(connection, delivery.id) is None


def withdraw_claimed(connection: Connection, now: float, delivery_id: int) -> None:
    """End a delivery that was claimed, and not sent because its run was superseded, or its object replaced, meanwhile."""
    row = locked(connection, delivery_id)
    if row.state == DeliveryState.SENDING and row.replaced_by is not None:
        withdraw_replaced(connection, now, row, by=row.replaced_by)
    elif row.state == DeliveryState.SENDING:
        withdraw(connection, now, row, reached=may_be_there(connection, row))


def stored(connection: Connection, now: float, delivery_id: int, status: int) -> bool:
    """The destination answered with success, or a warning (``status`` says which).

    Returns
    -------
    bool
        False where a correction came while it was on the wire: the destination now has an old identity.
    """
    row = locked(connection, delivery_id)
    if row.state != DeliveryState.COMMITTED:
        set_values(connection, row.id, state=str(DeliveryState.STORED), status=status, message=None, sent_at=now)
        record(connection, now, ledger.Kind.DELIVERY_STORED, row, status=status)
    if superseded(connection, row.job_id):
        mark_outdated(connection, now, row)
        return False
    return True


def unknown(connection: Connection, now: float, delivery_id: int, message: str, *, not_before: float) -> None:
    """No answer came: the object may be there or not, and is sent again."""
    row = locked(connection, delivery_id)
    if row.state == DeliveryState.SENDING:
        _unknown(connection, now, row, message, not_before=not_before)


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


def replay(
    connection: Connection, now: float, *, delivery_id: int | None = None, destination: str | None = None
) -> list[int]:
    """Queue deliveries again, with the same bytes and all their attempts; return their numbers.

    Parameters
    ----------
    delivery_id : int or None
        This one, whatever became of it, unless it is being sent.
    destination : str or None
        Every dead, failed or unknown delivery to this destination.

    Raises
    ------
    NotStored
        There is no such delivery.
    UsageError
        The delivery is being sent, its run was superseded, or not exactly one of both parameters was given.
    """
    if (delivery_id is None) == (destination is None):
        raise UsageError("name either a delivery or a destination")
    if delivery_id is not None:
        rows = [locked(connection, delivery_id)]
        if rows[0].state == DeliveryState.SENDING:
            raise UsageError(f"delivery {delivery_id} is being sent in this moment")
        if superseded(connection, rows[0].job_id):
            raise UsageError(
                f"delivery {delivery_id} carries an identity that was corrected since; it is not sent again"
            )
        if rows[0].replaced_by is not None:
            raise UsageError(f"delivery {delivery_id} was replaced by job {rows[0].replaced_by}; it is not sent again")
        if assessed(connection, [rows[0].sop_instance_uid]):
            raise UsageError(
                f"delivery {delivery_id}: the object was rejected at an archive or edited by a reader; it is not sent "
                "again. `ainode retry JOB` makes a new result"
            )
    else:
        lost = [str(state) for state in (DeliveryState.DEAD, DeliveryState.FAILED, DeliveryState.UNKNOWN)]
        rows = rows_where(connection, deliveries.c.destination == destination, deliveries.c.state.in_(lost))
        rows = [row for row in rows if row.replaced_by is None and not superseded(connection, row.job_id)]
        judged = assessed(connection, [row.sop_instance_uid for row in rows])
        rows = [row for row in rows if row.sop_instance_uid not in judged]
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
        )
        record(connection, now, ledger.Kind.DELIVERY_REPLAYED, row, before=row.state)
    return [row.id for row in rows]


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
    """Condition on a statement that joins objects: their study is held, an image of their run was corrected since, or
    another set took their place."""
    study = tables.studies.c.study_uid == tables.objects.c.study_uid
    run = tables.jobs.c.id == tables.objects.c.job_id
    held = exists().where(study, tables.studies.c.held_reason.is_not(None))
    corrected = exists().where(run, tables.jobs.c.superseded_at.is_not(None))
    return held | corrected | deliveries.c.replaced_by.is_not(None)


def _freeze_one(connection: Connection, now: float, written: FrozenObject, *, job_id: int, study_uid: str) -> bool:
    added = insert_missing(
        connection,
        tables.objects,
        {
            "sop_instance_uid": written.sop_instance_uid,
            "sop_class_uid": written.sop_class_uid,
            "series_uid": written.series_uid,
            "study_uid": study_uid,
            "transfer_syntax_uid": written.transfer_syntax_uid,
            "job_id": job_id,
            "role": written.role,
            "profile": written.profile,
            "path": str(written.path),
            "digest": written.digest,
            "size": written.size,
            "frozen_at": now,
        },
        unique=["sop_instance_uid"],
    )
    if added is not None:
        return True
    before = connection.execute(
        select(tables.objects.c.digest).where(tables.objects.c.sop_instance_uid == written.sop_instance_uid)
    ).scalar_one()
    if before != written.digest:
        raise FrozenObjectDiffers(
            f"an object {written.role} was frozen before with other bytes",
            sop_instance_uid=written.sop_instance_uid,
            frozen=before,
            offered=written.digest,
        )
    return False


def _unknown(connection: Connection, now: float, row: Row[Any], message: str, *, not_before: float) -> None:
    set_values(connection, row.id, state=str(DeliveryState.UNKNOWN), message=message, not_before=not_before)
    record(connection, now, ledger.Kind.DELIVERY_UNKNOWN, row, message=message)
    if (by := replaced_by(connection, row.id)) is not None:
        withdraw_replaced(connection, now, row, by=by)
    elif superseded(connection, row.job_id):
        withdraw(connection, now, row, reached=True)
