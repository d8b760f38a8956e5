"""``ainode pause``."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app()


@app.command()
def pause(
    ctx: typer.Context,
    scope: Annotated[str, typer.Argument(help="model, rule, destination or all.")],
    name: Annotated[str, typer.Argument(help="Its name; none for all.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Stands in the ledger; no patient's name or id.")] = "",
) -> None:
    """Stop a model, a rule, a destination or everything at once. Receiving goes on; a restart changes nothing."""
    from node import actions
    from node.commands.operator import operator

    settings = ctx.obj.settings()
    with opened(settings) as store:
        done = actions.pause(settings, store, scope, name, reason, by=operator())
    typer.echo(f"{scope} {name}".strip() + (" is paused" if done else " was paused already"))
