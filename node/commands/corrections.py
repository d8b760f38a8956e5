"""``ainode corrections``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened, show

app = new_app()


@app.command()
def corrections(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
    settle: Annotated[
        str | None,
        typer.Option("--settle", metavar="STUDY", help="Note that a person has removed or moved what there was."),
    ] = None,
) -> None:
    """List results that a destination has, or may have, though their images were corrected since.

    The node sends nothing to take them back: that would carry the old identity once more. Remove or move them at the
    destination, then note it with --settle.
    """
    from node import correction

    settings = ctx.obj.settings()
    if settle is not None:
        with opened(settings) as store, store.write() as connection:
            count = correction.settle(connection, time.time(), settle)
        typer.echo(f"{count} deliveries are settled" if count else "nothing of this study was open")
        return
    with opened(settings) as store, store.read() as connection:
        found = correction.outdated_deliveries(connection)
    rows = [
        {
            "delivery": row.id,
            "state": row.state,
            "destination": row.destination,
            "role": row.role,
            "job": row.job_id,
            "sent_at": row.sent_at,
            "sop_instance_uid": row.sop_instance_uid,
            "series_uid": row.series_uid,
            "study_uid": row.study_uid,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="no destination has results with an old identity")
