"""How commands print lists: aligned columns for people, stable JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.archive.engine import Store
    from node.settings import Settings


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print rows that all have the same keys.

    Parameters
    ----------
    as_json : bool
        A JSON array with every key; times are seconds since the epoch.
    empty : str
        What people read when there is no row.
    """
    if as_json:
        typer.echo(json.dumps([dict(row) for row in rows], indent=2, ensure_ascii=False))
        return
    if not rows:
        typer.echo(empty)
        return
    lines = [list(rows[0]), *([_cell(key, value) for key, value in row.items()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key.endswith("_at"):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    if key.endswith("_range_ml"):
        return " to ".join(f"{bound:.2f}" for bound in value)
    if key.endswith("_ml"):
        return f"{value:.2f}"
    return " ".join(str(value).split())


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """Open the store for one command."""
    from node.archive.engine import open_store

    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()
