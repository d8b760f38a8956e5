"""``ainode replay``."""

from __future__ import annotations

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
    from node import actions
    from node.commands.operator import operator

    settings = ctx.obj.settings()
    with opened(settings) as store:
        queued = actions.replay(
            settings,
            store,
            by=operator(),
            delivery=delivery,
            destination=destination,
            since=since.timestamp() if since else None,
            until=until.timestamp() if until else None,
        )
    typer.echo(f"{len(queued)} deliveries are queued again")
