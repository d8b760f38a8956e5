"""``ainode studies``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import new_app
from node.commands.table import opened, show

if TYPE_CHECKING:
    from sqlalchemy import Row

app = new_app()


@app.command()
def studies(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
    held: Annotated[bool, typer.Option("--held", help="Only studies that are held.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the latest first.")] = 50,
) -> None:
    """List studies, those with the latest images first. Shows no patient.

    The column runs tells what became of each rule that matched, in its latest run; the reasons stand in `ainode why`.
    """
    from sqlalchemy import func, select, true

    from node.archive import index
    from node.archive.tables import instances, jobs

    with opened(ctx.obj.settings()) as store, store.read() as connection:
        found = index.list_studies(connection, limit=limit, held=True if held else None)
        uids = [row.study_uid for row in found]
        counting = (instances.c.active == true()) & ~instances.c.ours & ~instances.c.derived
        counted = select(instances.c.study_uid, func.count()).where(instances.c.study_uid.in_(uids), counting)
        counts = {uid: int(count) for uid, count in connection.execute(counted.group_by(instances.c.study_uid))}
        ran = connection.execute(select(jobs).where(jobs.c.study_uid.in_(uids)).order_by(jobs.c.id)).all()
        # The latest run of each rule, in the order of the rules' first runs.
        latest = {(run.study_uid, run.rule): run for run in ran}
        runs = {key: f"{run.rule} {_what_became_of(run)}" for key, run in latest.items()}
        volumes = [(uid, volume) for (uid, _), run in latest.items() if (volume := _volume(run)) is not None]
    rows = [
        {
            "study_uid": row.study_uid,
            "state": row.state,
            "instances": counts.get(row.study_uid, 0),
            "runs": ", ".join(words for (uid, _), words in runs.items() if uid == row.study_uid) or None,
            **({"volumes": [each for uid, each in volumes if uid == row.study_uid]} if as_json else {}),
            "accession_number": row.accession_number,
            "held": row.held_reason,
            "first_at": row.first_at,
            "last_at": row.last_at,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="no studies")


def _what_became_of(run: Row[Any]) -> str:
    """Outcome of a run that has ended well, with its error where it has not, else its state."""
    if outcome := (run.result or {}).get("outcome"):
        return str(outcome)
    return f"{run.state} {run.error_code}" if run.error_code else str(run.state)


def _volume(run: Row[Any]) -> dict[str, Any] | None:
    """Total volume of a run with its range over decision thresholds, mL; None where nothing was measured."""
    result = run.result or {}
    if result.get("total_ml") is None:
        return None
    return {"rule": run.rule, "total_ml": result["total_ml"], "total_range_ml": result.get("total_range_ml")}
