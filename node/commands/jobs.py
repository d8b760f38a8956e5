"""``ainode jobs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import new_app
from node.commands.table import opened, show

if TYPE_CHECKING:
    from node.jobs.progress import Progress

app = new_app()


@app.command()
def jobs(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
    state: Annotated[list[str] | None, typer.Option("--state", help="Only this state; may be repeated.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the latest first.")] = 50,
) -> None:
    """List runs, the latest first."""
    from node.commands.choices import chosen
    from node.jobs import queue
    from node.jobs.progress import ProgressBoard

    states = chosen(queue.JobState, state, "--state")
    settings = ctx.obj.settings()
    with opened(settings) as store, store.read() as connection:
        found = queue.list_jobs(connection, states=states, limit=limit)
    board = ProgressBoard(settings.data_dir)
    told = {row.id: board.of(row.id, state=row.state, started_at=row.started_at) for row in found}
    rows = [
        {
            "job": row.id,
            "state": row.state,
            "priority": queue.Priority(row.priority).name.lower().replace("_", "-"),
            "rule": row.rule,
            "model": row.model_id,
            "run": row.run,
            "kind": row.kind,
            "of": row.parent_id,
            "attempts": f"{row.attempts}/{row.maximum_attempts}",
            "progress": _shown(told[row.id], as_json=as_json),
            "outcome": (row.result or {}).get("outcome"),
            "total_ml": (row.result or {}).get("total_ml"),
            "total_range_ml": (row.result or {}).get("total_range_ml"),
            "error": f"{row.error_code}: {row.message}" if row.error_code else None,
            "shadow": row.shadow,
            "created_at": row.created_at,
            "ended_at": row.ended_at,
            "study_uid": row.study_uid,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="no runs")


def _shown(progress: Progress | None, *, as_json: bool) -> dict[str, Any] | str | None:
    if progress is None:
        return None
    return progress.facts() if as_json else progress.words()
