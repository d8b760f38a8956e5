"""``ainode ledger``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app("The ledger of everything that happened.")


@app.callback()
def _group() -> None:
    """The ledger of everything that happened."""


@app.command()
def verify(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False) -> None:
    """Recompute the chain of hashes. Exit code 1 when a row was changed, lost or inserted."""
    from node.archive import ledger
    from node.errors import LedgerBroken

    with opened(ctx.obj.settings()) as store, store.read() as connection:
        verdict = ledger.verify(connection)
    if as_json:
        typer.echo(json.dumps(asdict(verdict), indent=2))
    else:
        typer.echo(f"{verdict.sealed} rows sealed, {verdict.unsealed} not yet; last seal {verdict.head}")
    if not verdict.intact:
        raise LedgerBroken(verdict.problem)
