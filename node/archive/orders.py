"""Orders in the store: what worklists named, when, and whether they still do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, or_, select, update

from node.archive import ledger
from node.archive.tables import orders, studies
from node.archive.upsert import insert_missing
from node.orders import Order


def entry_key(order: Order) -> str:
    """What names a scheduled step, whatever else of it changes."""
    named = [order.accession_number, order.requested_procedure_id, order.step_id]
    named += [order.workitem_uid] if order.workitem_uid else []
    # Some worklists give none of them.
    named += [] if any(named) else [order.study_uid, order.patient_id]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def take(connection: Connection, now: float, source: str, found: Sequence[Order]) -> tuple[int, int]:
    """Enter what a worklist names; return how many of these are new, and how many have changed."""
    new = changed = 0
    for order in found:
        key, content = entry_key(order), order.to_dict()
        # What JSON makes of it is what comes back.
        content = json.loads(json.dumps(content))
        values = {
            "study_uid": order.study_uid[:64],
            "accession_number": order.accession_number,
            "patient_id": order.patient_id,
            "modality": order.modality[:16],
            "starts_at": order.starts_at,
            "content": content,
            "last_seen_at": now,
        }
        inserted = insert_missing(
            connection,
            orders,
            {"source": source, "entry_key": key, "first_seen_at": now, **values},
            unique=["source", "entry_key"],
        )
        if inserted is not None:
            new += 1
            _received(connection, now, source, order)
            continue
        chosen = (orders.c.source == source) & (orders.c.entry_key == key)
        known = connection.execute(select(orders.c.content).where(chosen)).scalar_one()
        connection.execute(update(orders).where(chosen).values(gone_at=None, **values))
        if known != content:
            changed += 1
            _received(connection, now, source, order)
    return new, changed


def cancelled(connection: Connection, now: float, source: str, order: Order) -> bool:
    """Note that an order was taken back; False where it is not known. What has run stands."""
    chosen = (orders.c.source == source) & (orders.c.entry_key == entry_key(order)) & orders.c.gone_at.is_(None)
    if not connection.execute(update(orders).where(chosen).values(gone_at=now)).rowcount:
        return False
    ledger.record(
        connection,
        now,
        ledger.Kind.ORDER_CANCELLED,
        study_uid=order.study_uid or None,
        worklist=source,
        modality=order.modality,
    )
    return True


def withdraw(connection: Connection, source: str, workitem_uid: str) -> int:
    """Remove the order that a workitem was: unlike one of a worklist, it counts no longer when it is taken back."""
    found = connection.execute(select(orders.c.id, orders.c.content).where(orders.c.source == source))
    named = [row.id for row in found if row.content.get("workitem_uid") == workitem_uid]
    return int(connection.execute(delete(orders).where(orders.c.id.in_(named))).rowcount)


def gone(connection: Connection, now: float, source: str, since: float, until: float) -> int:
    """Note that a worklist does not name any more what it named within a time; return how many entries that are.

    Many worklists drop an entry as soon as the examination begins: the order stands all the same.
    """
    absent = (
        (orders.c.source == source)
        & (orders.c.last_seen_at < now)
        & orders.c.gone_at.is_(None)
        & orders.c.starts_at.between(since, until)
    )
    return int(connection.execute(update(orders).where(absent).values(gone_at=now)).rowcount)


def any_known(connection: Connection) -> bool:
    """Whether there is any order at all: most looks at a study end here where no worklist is asked."""
    return connection.execute(select(orders.c.id).limit(1)).first() is not None


def about(connection: Connection, *, study_uid: str, accession_numbers: Sequence[str]) -> list[Row[Any]]:
    """Orders that name a study by its UID or one of its accession numbers, oldest first."""
    named = [each for each in accession_numbers if each]
    chosen = or_(orders.c.study_uid == study_uid, orders.c.accession_number.in_(named))
    return list(connection.execute(select(orders).where(chosen).order_by(orders.c.id)))


def of_patient(
    connection: Connection, *, patient_ids: Sequence[str], modalities: Sequence[str], since: float, until: float
) -> list[Row[Any]]:
    """Orders for one of these patients and modalities within a time that no study has come for, oldest first."""
    came = exists().where(
        (studies.c.study_uid == orders.c.study_uid)
        | ((orders.c.accession_number != "") & (studies.c.accession_number == orders.c.accession_number))
    )
    chosen = (
        orders.c.patient_id.in_([each for each in patient_ids if each])
        & orders.c.modality.in_(list(modalities))
        & orders.c.starts_at.between(since, until)
        & ~came
    )
    return list(connection.execute(select(orders).where(chosen).order_by(orders.c.id)))


def between(connection: Connection, since: float, until: float) -> list[Row[Any]]:
    """Orders that are to start within a time, or have no time, in that order."""
    chosen = orders.c.starts_at.between(since, until) | (
        orders.c.starts_at.is_(None) & orders.c.last_seen_at.between(since, until)
    )
    return list(connection.execute(select(orders).where(chosen).order_by(orders.c.starts_at, orders.c.id)))


def forget(connection: Connection, before: float) -> int:
    """Remove what no worklist has named since a time; return how many rows that were."""
    return int(connection.execute(delete(orders).where(orders.c.last_seen_at < before)).rowcount)


def _received(connection: Connection, now: float, source: str, order: Order) -> None:
    wanted = studies.c.study_uid == order.study_uid
    if order.accession_number:
        wanted = wanted | (studies.c.accession_number == order.accession_number)
    connection.execute(update(studies).where(wanted).values(due_at=now))
    ledger.record(
        connection,
        now,
        ledger.Kind.ORDER_RECEIVED,
        study_uid=order.study_uid or None,
        worklist=source,
        modality=order.modality,
        station=order.station_ae_title,
        procedures=[code.value for code in order.codes],
        priority=order.priority,
    )
