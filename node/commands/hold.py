"""``ainode hold``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app()


@app.command()
def hold(
    ctx: typer.Context,
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    reason: Annotated[str, typer.Option("--reason", help="Stands in the ledger; no patient's name or id.")] = "",
) -> None:
    """Hold a study: its jobs are cancelled, and nothing runs on it until it is released."""
    from node import planning
    from node.archive import index
    from node.errors import NotStored

    with opened(ctx.obj.settings()) as store, store.write() as connection:
        found = index.study(connection, study)
        if found is None:
            raise NotStored("there is no such study")
        held = planning.hold(connection, time.time(), study, reason=f"operator: {reason or 'no reason given'}")
    typer.echo("the study is held" if held else f"the study was held already: {found.held_reason}")
