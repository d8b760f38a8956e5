"""What becomes of delivered results: counts of their proofs, and the end of their local copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, exists, func, or_, select, update

from node.archive import ledger
from node.archive.engine import Store
from node.archive.tables import deliveries, objects
from node.delivery.delivery_states import PROVEN, DeliveryState, Outdated

_DAY_SECONDS = 86400.0
_BATCH = 200


def proofs_by_destination(connection: Connection) -> dict[str, dict[str, int]]:
    """Destination → kind of proof → deliveries."""
    counts: dict[str, dict[str, int]] = {}
    rows = connection.execute(
        select(deliveries.c.destination, deliveries.c.proof, func.count())
        .where(deliveries.c.proof.is_not(None))
        .group_by(deliveries.c.destination, deliveries.c.proof)
        .order_by(deliveries.c.destination, deliveries.c.proof)
    )
    for destination, proof, count in rows:
        counts.setdefault(destination, {})[proof] = int(count)
    return counts


def remove_delivered(store: Store, folder: Path, now: float, *, keep_days: float) -> int:
    """Remove local copies that are not needed any more; return how many.

    A copy goes when every destination of the object was proven to have it, by commitment or query, at least ``keep_days``
    ago. What is stored without proof stays, and so do the results of shadow runs, which nobody else has.

    Parameters
    ----------
    folder : Path
        The outbox.
    keep_days : float
        0: nothing goes.
    """
    if not keep_days:
        return 0
    removed = 0
    while True:
        with store.write() as connection:
            rows = _due(connection, now - keep_days * _DAY_SECONDS)
            for row in rows:
                # On record before it is done: a file without a row would never go, a row without a file does no harm.
                _note(connection, now, row)
        for row in rows:
            (folder / row.path).unlink(missing_ok=True)
        removed += len(rows)
        if len(rows) < _BATCH:
            return removed


def _due(connection: Connection, before: float) -> list[Row[Any]]:
    of_object = deliveries.c.sop_instance_uid == objects.c.sop_instance_uid
    proven = deliveries.c.proof.in_([str(proof) for proof in PROVEN])
    # A withdrawn delivery went nowhere, and never will.
    over = or_(proven & (deliveries.c.proven_at < before), deliveries.c.state == DeliveryState.WITHDRAWN)
    unsettled = deliveries.c.outdated == Outdated.OPEN
    return list(
        connection.execute(
            select(objects)
            .where(
                objects.c.removed_at.is_(None),
                objects.c.frozen_at < before,
                exists().where(of_object, proven),
                ~exists().where(of_object, ~over),
                ~exists().where(of_object, unsettled),
            )
            .order_by(objects.c.frozen_at, objects.c.sop_instance_uid)
            .limit(_BATCH)
            .with_for_update(skip_locked=True, of=objects)
        )
    )


def _note(connection: Connection, now: float, row: Row[Any]) -> None:
    chosen = objects.c.sop_instance_uid == row.sop_instance_uid
    connection.execute(update(objects).where(chosen).values(removed_at=now))
    ledger.record(
        connection,
        now,
        ledger.Kind.OBJECT_REMOVED,
        study_uid=row.study_uid,
        job_id=row.job_id,
        sop_instance_uid=row.sop_instance_uid,
        role=row.role,
        digest=row.digest,
    )
