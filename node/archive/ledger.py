"""The ledger: what happened, in rows that are chained by hashes so that nobody changes or loses one unseen.

Everybody writes unchained rows, in the transaction of the event itself. One sealer, in the scheduler, gives the rows
that have none a sequence number without gaps and a seal: SHA-256 over the previous seal and the row. The chain is in
the order of sealing, not of row numbers: on PostgreSQL a transaction with a smaller row number may commit later, and
then its rows are sealed later instead of being missed. The last seal also stands in ``ledger_head``, so that rows cut
off the end are missed.

A row never holds a patient's name or id.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, text, update

from node.archive.engine import Dialect
from node.archive.event_kinds import Kind
from node.archive.story import Fact, story
from node.archive.tables import ledger, ledger_head
from node.archive.upsert import insert_statement

__all__ = ["GENESIS", "Fact", "Kind", "LedgerVerdict", "record", "seal", "story", "verify"]

GENESIS = "0" * 64
"""Seal before the first."""

SEALER_LOCK = 0x5EA1E12  # key of the advisory lock that makes the sealer one on PostgreSQL
_PAGE = 1000
_INSERT = insert(ledger)


@dataclass(frozen=True, slots=True)
class LedgerVerdict:
    """What :func:`verify` found.

    Attributes
    ----------
    intact : bool
        Every sealed row is there and as it was sealed.
    sealed, unsealed : int
        Rows checked, and rows still waiting for the sealer.
    head : str
        Last seal; noted elsewhere, it proves later that nothing up to here was rewritten.
    problem : str
        Empty, or what is wrong first, with the row's sequence number.
    """

    intact: bool
    sealed: int
    unsealed: int
    head: str
    problem: str = ""


def record(
    connection: Connection,
    now: float,
    kind: str,
    *,
    study_uid: str | None = None,
    job_id: int | None = None,
    sop_instance_uid: str | None = None,
    **detail: Any,
) -> None:
    """Write one row, in the caller's transaction.

    Parameters
    ----------
    now : float
        Seconds since the epoch.
    kind : str
        One of :class:`Kind`.
    **detail
        Facts; what JSON has no form for is written as text. Never a patient's name or id.
    """
    identifiers = {"study_uid": study_uid, "job_id": job_id, "sop_instance_uid": sop_instance_uid}
    record_all(connection, [entry(now, kind, identifiers, detail)])


def entry(now: float, kind: str, identifiers: Mapping[str, Any], detail: Mapping[str, Any]) -> dict[str, Any]:
    """A row for :func:`record_all`; ``identifiers`` are ``study_uid``, ``job_id`` and ``sop_instance_uid``."""
    unnamed = {"study_uid": None, "job_id": None, "sop_instance_uid": None}
    return {"at": now, "kind": str(kind), **unnamed, **identifiers, "detail": plain(detail)}


def record_all(connection: Connection, entries: Sequence[dict[str, Any]]) -> None:
    """Write rows in the order given, in the caller's transaction."""
    connection.execute(_INSERT, list(entries))


def seal(connection: Connection, limit: int = 1000) -> int:
    """Chain up to ``limit`` rows that are not yet chained; return how many there were."""
    if connection.dialect.name == Dialect.POSTGRESQL:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SEALER_LOCK})
    head = connection.execute(select(ledger_head)).one_or_none()
    sequence, previous = (head.sequence, head.seal) if head else (0, GENESIS)
    rows = connection.execute(
        select(ledger).where(ledger.c.sequence.is_(None)).order_by(ledger.c.id).limit(limit)
    ).all()
    if not rows:
        return 0
    sealed = []
    for sequence, row in enumerate(rows, start=sequence + 1):  # noqa: B020 - counts on from the head
        previous = _seal(previous, sequence, row)
        sealed.append({"row": row.id, "sequence": sequence, "seal": previous})
    connection.execute(
        update(ledger)
        .where(ledger.c.id == bindparam("row"))
        .values(sequence=bindparam("sequence"), seal=bindparam("seal")),
        sealed,
    )
    statement = insert_statement(connection.dialect.name, ledger_head).values(id=1, sequence=sequence, seal=previous)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["id"], set_={"sequence": statement.excluded.sequence, "seal": statement.excluded.seal}
        )
    )
    return len(rows)


def verify(connection: Connection) -> LedgerVerdict:
    """Recompute the whole chain; finds rows changed, lost, inserted, moved, or cut off the end."""
    unsealed = connection.execute(
        select(func.count()).select_from(ledger).where(ledger.c.sequence.is_(None))
    ).scalar_one()
    sequence, previous = 0, GENESIS

    def broken(problem: str) -> LedgerVerdict:
        return LedgerVerdict(False, sequence, unsealed, previous, problem)

    for row in _sealed_rows(connection):
        if row.sequence != sequence + 1:
            return broken(f"row {sequence + 1} is missing, the next there is {row.sequence}")
        if row.seal != _seal(previous, row.sequence, row):
            return broken(f"row {row.sequence} ({row.kind}) is not what was sealed")
        sequence, previous = row.sequence, row.seal
    head = connection.execute(select(ledger_head)).one_or_none()
    expected = (head.sequence, head.seal) if head else (0, GENESIS)
    if expected[0] > sequence:
        return broken(f"rows {sequence + 1} to {expected[0]} are missing at the end")
    if expected != (sequence, previous):
        return broken(f"row {sequence} is the last, but the sealer wrote row {expected[0]} last")
    return LedgerVerdict(True, sequence, unsealed, previous)


def _sealed_rows(connection: Connection) -> Iterator[Row[Any]]:
    last = -(2**62)
    while True:
        page = connection.execute(
            select(ledger).where(ledger.c.sequence > last).order_by(ledger.c.sequence).limit(_PAGE)
        ).all()
        if not page:
            return
        yield from page
        last = page[-1].sequence


def _seal(previous: str, sequence: int, row: Row[Any]) -> str:
    content = json.dumps(
        {
            "sequence": sequence,
            "id": row.id,
            "at": row.at,
            "kind": row.kind,
            "study_uid": row.study_uid,
            "job_id": row.job_id,
            "sop_instance_uid": row.sop_instance_uid,
            "detail": row.detail,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return hashlib.sha256(f"{previous}\n{content}".encode("ascii")).hexdigest()


def plain(value: Any) -> Any:
    """``value`` as it comes back from the database, so that the seal is over what is stored."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case set() | frozenset():
            return sorted((plain(item) for item in value), key=str)
        case _:
            # NUL and half surrogates have no place in a PostgreSQL text.
            return str(value).replace("\0", "").encode("utf-8", "replace").decode("utf-8")
