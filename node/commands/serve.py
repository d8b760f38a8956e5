"""``ainode serve``."""

from __future__ import annotations

import typer

from node.cli import new_app

app = new_app()


@app.command()
def serve(ctx: typer.Context) -> None:
    """Run the node: receiver, scheduler, dispatchers, sender, and the console where enabled. Migrates the database first."""
    from node import log
    from node.liveness import Liveness
    from node.supervisor import Supervisor

    settings = ctx.obj.settings()
    log.set_up("supervisor", settings.log.level)
    raise typer.Exit(Supervisor(settings, ctx.obj.config, liveness=Liveness.of_environment()).run())
