"""``ainode pause``."""

from __future__ import annotations

import getpass
import time
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
    from node import doorbell, kill_switch
    from node.commands.scopes import scope_of
    from node.errors import UsageError
    from node.status import run_folder

    settings = ctx.obj.settings()
    chosen = scope_of(settings, scope, name)
    if not reason.strip():
        raise UsageError("--reason: say why; it stands in the ledger")
    with opened(settings) as store, store.write() as connection:
        done = kill_switch.pause(connection, time.time(), chosen, name, reason=reason, by=getpass.getuser())
    doorbell.ring(run_folder(settings.data_dir), doorbell.SENDER)
    typer.echo(f"{scope} {name}".strip() + (" is paused" if done else " was paused already"))
