"""The one statement that SQLite and PostgreSQL share but SQLAlchemy's core does not: INSERT … ON CONFLICT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from node.archive.engine import Dialect


def insert_statement(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """INSERT that takes ``on_conflict_do_…`` in the connection's dialect."""
    if dialect == Dialect.SQLITE:
        return sqlite.insert(table)
    return postgresql.insert(table)


def insert_missing(
    connection: Connection, table: Table, values: Mapping[str, Any], *, unique: Sequence[str]
) -> Any | None:
    """Insert a row and return its primary key; None where a row with the same ``unique`` columns exists.

    Safe under concurrency: of several at once, one inserts and the others wait for its outcome.
    """
    statement = _missing_statement(connection.dialect.name, table, tuple(unique))
    return connection.execute(statement, dict(values)).scalar_one_or_none()


def insert_all_missing(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, unique: Sequence[str]
) -> None:
    """Insert rows, leaving out those whose ``unique`` columns exist."""
    statement = _missing_rows_statement(connection.dialect.name, table, tuple(unique))
    connection.execute(statement, [dict(row) for row in rows])


@lru_cache(maxsize=64)
def _missing_rows_statement(dialect: str, table: Table, unique: tuple[str, ...]) -> Any:
    return insert_statement(dialect, table).on_conflict_do_nothing(index_elements=list(unique))


@lru_cache(maxsize=64)
def _missing_statement(dialect: str, table: Table, unique: tuple[str, ...]) -> Any:
    # Made once: making a statement costs many times what executing it does.
    (key,) = table.primary_key.columns
    return insert_statement(dialect, table).on_conflict_do_nothing(index_elements=list(unique)).returning(key)
