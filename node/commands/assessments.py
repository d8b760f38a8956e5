"""``ainode assessments``."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened, show

app = new_app()


@app.command()
def assessments(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the latest first.")] = 50,
) -> None:
    """List what readers, or archives for them, made of results: rejected, edited or verified.

    Such an object is never sent again. `ainode retry JOB` makes a new result.
    """
    from node import assessments

    with opened(ctx.obj.settings()) as store, store.read() as connection:
        found = assessments.listed(connection, limit=limit)
        totals = assessments.counted(connection)
    rows = [
        {
            "assessment": row.kind,
            "reason": row.reason or None,
            "role": row.role,
            "job": row.job_id,
            "from": row.calling_ae_title,
            "at": row.at,
            "sop_instance_uid": row.sop_instance_uid,
            "source_uid": row.source_uid,
            "study_uid": row.study_uid,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="nobody has assessed a result")
    if rows and not as_json:
        typer.echo(", ".join(f"{count} {kind}" for kind, count in totals.items()))
