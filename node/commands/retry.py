"""``ainode retry``."""

from __future__ import annotations

import time
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
    from node import assessments, doorbell
    from node.jobs import queue
    from node.status import run_folder

    settings = ctx.obj.settings()
    with opened(settings) as store, store.write() as connection:
        again = assessments.repeat(connection, time.time(), job)
        if again is None:
            queue.retry(connection, time.time(), job)
    doorbell.ring(run_folder(settings.data_dir), doorbell.DISPATCHER)
    typer.echo(f"job {job} is queued again" if again is None else f"a new run of job {job} is queued as job {again}")
