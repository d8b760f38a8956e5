"""``ainode resume``."""

from __future__ import annotations

import sys
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
    from node import actions
    from node.commands.operator import operator
    from node.errors import UsageError

    settings = ctx.obj.settings()
    with opened(settings) as store:
        waiting = actions.waiting(settings, store, scope, name)
        if not reason.strip():
            raise UsageError("--reason: say why; it stands in the ledger")
        if run_backlog is None:
            run_backlog = _asked(waiting)
        waited = actions.resume(settings, store, scope, name, reason, run_backlog=run_backlog, by=operator())
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
