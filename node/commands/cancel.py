"""``ainode cancel``."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app()


@app.command()
def cancel(ctx: typer.Context, job: Annotated[int, typer.Argument(help="Number of the job.")]) -> None:
    """Cancel a queued or running job; a running one stops within seconds."""
    from node import actions
    from node.commands.operator import operator

    settings = ctx.obj.settings()
    with opened(settings) as store:
        actions.cancel(settings, store, job, by=operator())
    typer.echo(f"job {job} is cancelled")
