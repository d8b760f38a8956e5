"""``ainode resume``."""

from __future__ import annotations

import getpass
import sys
import time
from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app()


@app.command()
def resume(
    ctx: typer.Context,
    scope: Annotated[str, typer.Argument(help="model, rule, destination or all.")],
    name: Annotated[str, typer.Argument(help="Its name; none for all.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Stands in the ledger; no patient's name or id.")] = "",
    run_backlog: Annotated[
        bool | None,
        typer.Option(
            "--run-backlog/--discard-backlog", help="What waited goes on, or never does. Asked for when absent."
        ),
    ] = None,
) -> None:
    """Let go on what was paused, with what waited meanwhile or without."""
    from node import doorbell, kill_switch
    from node.archive.pauses import find
    from node.commands.scopes import scope_of
    from node.errors import UsageError
    from node.status import run_folder

    settings = ctx.obj.settings()
    chosen = scope_of(settings, scope, name, may_be_gone=True)
    if not reason.strip():
        raise UsageError("--reason: say why; it stands in the ledger")
    with opened(settings) as store:
        with store.read() as connection:
            if find(connection, chosen, name) is None:
                raise UsageError(f"{f'{scope} {name}'.strip()} is not paused; see `ainode status`")
            waiting = kill_switch.backlog(connection, chosen, name)
        if run_backlog is None:
            run_backlog = _asked(waiting)
        with store.write() as connection:
            now, by = time.time(), getpass.getuser()
            waited = kill_switch.resume(connection, now, chosen, name, reason=reason, by=by, run_backlog=run_backlog)
    for bell in (doorbell.SENDER, doorbell.DISPATCHER):
        doorbell.ring(run_folder(settings.data_dir), bell)
    fate = "go on" if run_backlog else "are discarded"
    typer.echo(f"{scope} {name}".strip() + f" is resumed; {waited.jobs} runs and {waited.deliveries} deliveries {fate}")


def _asked(waiting: object) -> bool:
    from node.errors import UsageError
    from node.kill_switch import Backlog

    assert isinstance(waiting, Backlog)
    if not waiting.jobs and not waiting.deliveries:
        return True
    if not sys.stdin.isatty():
        raise UsageError("say what becomes of what waited: --run-backlog or --discard-backlog")
    return typer.confirm(f"{waiting.jobs} runs and {waiting.deliveries} deliveries waited. Run and send them now?")
