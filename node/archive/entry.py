"""Entering received instances: associations, studies, instances and ledger in one transaction for all of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Table, insert

from node.archive import index, ledger
from node.archive.engine import Dialect, Store
from node.archive.instance_index import (
    AE_TITLE_LENGTH,
    Arrival,
    Recorded,
    check_uids,
    detail_of_association,
    instance_values,
    study_values,
    those_that_wake,
    waking_statement,
)
from node.archive.prepared import Prepared
from node.archive.tables import associations, instances, studies
from node.archive.tables import ledger as ledger_table
from node.archive.upsert import insert_statement

_AMONG = "sop_instance_uid IN (SELECT value FROM json_each(?1))"
_IS_KNOWN = f"SELECT EXISTS (SELECT 1 FROM instances WHERE {_AMONG}) OR EXISTS (SELECT 1 FROM objects WHERE {_AMONG})"
_RECEIVED = str(ledger.Kind.INSTANCE_RECEIVED)
# Written as text here: they are made for every instance.
_ENCODED = ("headers", "detail")


@dataclass(frozen=True, slots=True)
class Opened:
    """The association that brought an arrival."""

    id: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    opened_at: float


def enter(store: Store, arrivals: Sequence[Arrival], opened: Sequence[Opened]) -> list[Recorded]:
    """Enter instances that are in the spool, and the associations of which they are the first; return what each was.

    Raises
    ------
    ObjectRejected
        A UID of one of them is none; nothing is entered.
    StoreUnavailable
        Nothing is entered.
    """
    for arrival in arrivals:
        check_uids(arrival.header)
    plain = not any(arrival.made_here or arrival.derived for arrival in arrivals)
    if plain and store.dialect is Dialect.SQLITE and _entered_as_new(store, arrivals, opened):
        return [Recorded.NEW] * len(arrivals)
    with store.write() as connection:
        for association in opened:
            index.open_association(
                connection,
                association.opened_at,
                association_id=association.id,
                calling_ae_title=association.calling_ae_title,
                called_ae_title=association.called_ae_title,
                address=association.address,
            )
        return index.record_instances(connection, arrivals)


def _entered_as_new(store: Store, arrivals: Sequence[Arrival], opened: Sequence[Opened]) -> bool:
    """Enter instances of which there is no copy; False, and nothing entered, where there is one of any of them."""
    uids = {arrival.header.sop_instance_uid for arrival in arrivals}
    if len(uids) < len(arrivals):
        return False
    # Made before the turn is taken: nobody else writes during it.
    known = json.dumps(list(uids))
    openings = [{**entry, "detail": json.dumps(entry["detail"])} for entry in map(_opening, opened)]
    waking = [study_values(each.at, each.header) for each in those_that_wake(arrivals)]
    rows = [_instance_row(each) for each in arrivals]
    entries = [_ledger_row(each) for each in arrivals]
    with store.write_sqlite() as connection:
        if connection.execute(_IS_KNOWN, (known,)).fetchone()[0]:
            return False
        _enter(connection, associations, [_association(each) for each in opened])
        _enter(connection, ledger_table, openings)
        _enter(connection, studies, waking)
        _enter(connection, instances, rows)
        _enter(connection, ledger_table, entries)
    return True


def _instance_row(arrival: Arrival) -> dict[str, Any]:
    row = instance_values(arrival)
    row["headers"] = arrival.header.routing_text or json.dumps(arrival.header.routing)
    return row


def _ledger_row(arrival: Arrival) -> dict[str, Any]:
    """As :func:`ledger_values`, with its detail as text; what the instances of an association share is written once."""
    behind = _detail_behind(
        arrival.association_id,
        arrival.calling_ae_title,
        arrival.called_ae_title,
        arrival.move_originator,
        arrival.move_originator_message_id,
    )
    return {
        "at": arrival.at,
        "kind": _RECEIVED,
        "study_uid": arrival.header.study_uid,
        "job_id": None,
        "sop_instance_uid": arrival.header.sop_instance_uid,
        "detail": f'{{"digest": "{arrival.digest}", "size": {arrival.size}, {behind}',
    }


@lru_cache(maxsize=256)
def _detail_behind(association_id: str, calling: str, called: str, originator: str, message_id: int | None) -> str:
    shared = detail_of_association(association_id, calling, called, originator, message_id)
    return json.dumps(ledger.plain(shared))[1:]


def _enter(connection: sqlite3.Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        statement = _statement(table, tuple(rows[0]))
        connection.executemany(statement.text, statement.values(rows))


@lru_cache(maxsize=16)
def _statement(table: Table, keys: tuple[str, ...]) -> Prepared:
    """How rows with these keys get into a table; made once."""
    made: Any = insert(table)
    if table is studies:
        made = waking_statement(Dialect.SQLITE)
    elif table is associations:
        made = insert_statement(Dialect.SQLITE, table).on_conflict_do_nothing(index_elements=["id"])
    return Prepared(made, table, keys, _ENCODED)


def _association(opened: Opened) -> dict[str, Any]:
    return {
        "id": opened.id,
        "calling_ae_title": opened.calling_ae_title[:AE_TITLE_LENGTH],
        "called_ae_title": opened.called_ae_title[:AE_TITLE_LENGTH],
        "address": opened.address[:64],
        "opened_at": opened.opened_at,
        "instances": 0,
    }


def _opening(opened: Opened) -> dict[str, Any]:
    facts = {
        "association_id": opened.id,
        "calling_ae_title": opened.calling_ae_title[:AE_TITLE_LENGTH],
        "called_ae_title": opened.called_ae_title[:AE_TITLE_LENGTH],
        "address": opened.address,
    }
    return ledger.entry(opened.opened_at, ledger.Kind.ASSOCIATION_OPENED, {}, facts)
