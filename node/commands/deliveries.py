"""``ainode deliveries``."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened, show

app = new_app()


@app.command()
def deliveries(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
    state: Annotated[list[str] | None, typer.Option("--state", help="Only this state; may be repeated.")] = None,
    destination: Annotated[str | None, typer.Option("--destination", help="Only to this destination.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the latest first.")] = 50,
) -> None:
    """List deliveries, the latest first. Proof: "commitment" the destination is responsible, "query" it lists the object,
    "unverifiable" it offers neither."""
    from node.commands.choices import chosen
    from node.delivery import outbox

    states = chosen(outbox.DeliveryState, state, "--state")
    with opened(ctx.obj.settings()) as store, store.read() as connection:
        found = outbox.list_deliveries(connection, states=states, destination=destination, limit=limit)
    rows = [
        {
            "delivery": row.id,
            "state": row.state,
            "proof": row.proof,
            "destination": row.destination,
            "role": row.role,
            "attempts": row.attempts,
            "status": None if row.status is None else f"0x{row.status:04X}",
            "message": row.message,
            "job": row.job_id,
            "created_at": row.created_at,
            "sent_at": row.sent_at,
            "proven_at": row.proven_at,
            "sent_in": row.sent_syntax_uid,
            "sop_instance_uid": row.sop_instance_uid,
            "study_uid": row.study_uid,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="no deliveries")
