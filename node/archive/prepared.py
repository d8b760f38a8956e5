"""Statements that a receiver executes for every instance, as text for the standard library's SQLite driver.

They are written once, with SQLAlchemy, for both kinds of database. What SQLAlchemy does around each execution costs
several times what SQLite itself does, and a receiver executes the same few all day.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import JSON, Table
from sqlalchemy.dialects import sqlite


class Prepared:
    """A statement compiled once.

    Parameters
    ----------
    statement : sqlalchemy executable
        INSERT, with or without ON CONFLICT.
    table : Table
        Into which; says which values are JSON.
    keys : sequence of str
        Names of the values that every execution gives; all the table has no default for.
    encoded : collection of str
        Those of them that are given as JSON text already.
    """

    def __init__(self, statement: Any, table: Table, keys: Sequence[str], encoded: Collection[str] = ()) -> None:
        compiled = statement.compile(dialect=sqlite.dialect(paramstyle="qmark"), column_keys=list(keys))
        self.text = str(compiled)
        self._order: tuple[str, ...] = tuple(compiled.positiontup)
        self._fixed = {name: value for name, value in compiled.params.items() if name not in keys}
        self._json = frozenset(name for name in keys if name not in encoded and isinstance(table.c[name].type, JSON))
        if unknown := [name for name in self._order if name not in keys and self._fixed.get(name) is None]:
            raise ValueError(f"no value for {', '.join(unknown)}")
        self._plainly = itemgetter(*self._order) if not self._json and set(self._order) <= set(keys) else None

    def values(self, rows: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        """Values for ``executemany``, in the order of the text."""
        if self._plainly is not None:
            return list(map(self._plainly, rows))
        return [tuple(self._value(name, row) for name in self._order) for row in rows]

    def _value(self, name: str, row: Mapping[str, Any]) -> Any:
        if name in self._json:
            return json.dumps(row[name])
        return row[name] if name in row else self._fixed[name]
