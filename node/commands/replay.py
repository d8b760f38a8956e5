"""``ainode replay``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app()


@app.command()
def replay(
    ctx: typer.Context,
    delivery: Annotated[int | None, typer.Argument(help="Number of the delivery.")] = None,
    destination: Annotated[
        str | None, typer.Option("--destination", help="Every dead, failed or unknown delivery to this destination.")
    ] = None,
) -> None:
    """Send again, with the same bytes."""
    from node import doorbell
    from node.delivery import outbox
    from node.errors import UsageError
    from node.status import run_folder

    settings = ctx.obj.settings()
    if destination is not None and destination not in settings.destination:
        raise UsageError(f"there is no [destination.{destination}]")
    with opened(settings) as store, store.write() as connection:
        queued = outbox.replay(connection, time.time(), delivery_id=delivery, destination=destination)
    doorbell.ring(run_folder(settings.data_dir), doorbell.SENDER)
    typer.echo(f"{len(queued)} deliveries are queued again")
