"""``ainode cancel``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app()


@app.command()
def cancel(ctx: typer.Context, job: Annotated[int, typer.Argument(help="Number of the job.")]) -> None:
    """Cancel a queued or running job; a running one stops within seconds."""
    from node.errors import UsageError
    from node.jobs import queue

    with opened(ctx.obj.settings()) as store, store.write() as connection:
        state = queue.cancel(connection, time.time(), job)
    if state is not queue.JobState.CANCELLED:
        raise UsageError(f"job {job} is {state} and has nothing left to cancel")
    typer.echo(f"job {job} is cancelled")
