"""``ainode hold``."""

from __future__ import annotations

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
    from node import actions
    from node.commands.operator import operator

    settings = ctx.obj.settings()
    with opened(settings) as store:
        before = actions.hold(settings, store, study, reason, by=operator())
    typer.echo("the study is held" if before is None else f"the study was held already: {before}")
