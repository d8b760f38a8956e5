"""``ainode retry``."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app()


@app.command()
def retry(ctx: typer.Context, job: Annotated[int, typer.Argument(help="Number of the job.")]) -> None:
    """Run a failed, dead or cancelled job again, with all its attempts.

    A job whose result was rejected at an archive, or edited by a reader, is run again as a new run with new objects.
    """
    from node import actions
    from node.commands.operator import operator

    settings = ctx.obj.settings()
    with opened(settings) as store:
        again = actions.retry(settings, store, job, by=operator())
    typer.echo(f"job {job} is queued again" if again is None else f"a new run of job {job} is queued as job {again}")
