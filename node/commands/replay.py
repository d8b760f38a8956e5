"""``ainode replay``."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app()

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


@app.command()
def replay(
    ctx: typer.Context,
    delivery: Annotated[int | None, typer.Argument(help="Number of the delivery.")] = None,
    destination: Annotated[
        str | None, typer.Option("--destination", help="Every dead, failed or unknown delivery to this destination.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=_FORMATS, help="Every lost one filed from then on, local time."),
    ] = None,
    until: Annotated[datetime | None, typer.Option("--until", formats=_FORMATS, help="… and before then.")] = None,
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
        queued = outbox.replay(
            connection,
            time.time(),
            delivery_id=delivery,
            destination=destination,
            since=since.timestamp() if since else None,
            until=until.timestamp() if until else None,
        )
    doorbell.ring(run_folder(settings.data_dir), doorbell.SENDER)
    typer.echo(f"{len(queued)} deliveries are queued again")
