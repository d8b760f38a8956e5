"""Search in the ledger, newest first, in pages of bounded cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, text

from node.archive.tables import BY_PEOPLE, ledger, studies

_ROWS_LOOKED_AT = 100_000
"""Rows a search without a study looks through before it says where it stopped."""
LONGEST_PAGE = 500


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What is looked for; empty: everything.

    Attributes
    ----------
    kind : str
        Kind of event, or the beginning of one up to a dot: ``person``, ``delivery.dead``.
    who : str
        User name; only events that a person caused.
    study : str
        Study Instance UID or accession number.
    """

    kind: str = ""
    who: str = ""
    study: str = ""
    since: float | None = None
    until: float | None = None
    people_only: bool = False


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Rows, and the number to go on before (None: nothing older)."""

    rows: Sequence[Row[Any]]
    before: int | None


def audit_page(
    connection: Connection, wanted: AuditFilter, *, before: int | None = None, limit: int = 100
) -> AuditPage:
    """One page."""
    limit = min(max(limit, 1), LONGEST_PAGE)
    newest = connection.execute(select(func.max(ledger.c.id))).scalar_one_or_none() or 0
    top = min(before if before is not None else newest + 1, newest + 1)
    conditions = _conditions(connection, wanted)
    statement = select(ledger).where(ledger.c.id < top, *conditions)
    bottom = 0
    if not (wanted.study or _by_people(wanted)):
        bottom = max(0, top - _ROWS_LOOKED_AT)
        statement = statement.where(ledger.c.id >= bottom)
    rows = connection.execute(statement.order_by(ledger.c.id.desc()).limit(limit + 1)).all()
    if len(rows) > limit:
        return AuditPage(rows[:limit], rows[limit - 1].id)
    return AuditPage(rows, bottom if bottom > 1 else None)


def _by_people(wanted: AuditFilter) -> bool:
    return bool(wanted.people_only or wanted.who or wanted.kind.startswith("person"))


def _conditions(connection: Connection, wanted: AuditFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if _by_people(wanted):
        found.append(text(BY_PEOPLE))  # type: ignore[arg-type]
    if kind := wanted.kind.strip():
        found.append((ledger.c.kind == kind) | ledger.c.kind.startswith(f"{kind.rstrip('.')}.", autoescape=True))
    if who := wanted.who.strip().lower():
        found.append(ledger.c.detail["by"].as_string() == who)
    if study := wanted.study.strip():
        named = select(studies.c.study_uid).where(studies.c.accession_number == study)
        uids = [study, *connection.execute(named.limit(100)).scalars()]
        found.append(ledger.c.study_uid.in_(uids))
    if wanted.since is not None:
        found.append(ledger.c.at >= wanted.since)
    if wanted.until is not None:
        found.append(ledger.c.at < wanted.until)
    return found
