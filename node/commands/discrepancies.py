"""``ainode discrepancies``."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from node.cli import new_app
from node.commands.table import opened, show

app = new_app()


@app.command()
def discrepancies(
    ctx: typer.Context,
    since: Annotated[str, typer.Option("--since", metavar="T", help="3h, 2d, a date, or a date and time.")] = "7d",
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """List results that came after the report was signed, sent or withheld: somebody may want to look again."""
    from sqlalchemy import select

    from node.archive import ledger
    from node.archive.tables import jobs, studies
    from node.archive.tables import ledger as rows_of_ledger
    from node.site_time import since as moment

    settings = ctx.obj.settings()
    statement = (
        select(rows_of_ledger, jobs.c.rule, jobs.c.result, jobs.c.superseded_at, studies.c.accession_number)
        .join(jobs, jobs.c.id == rows_of_ledger.c.job_id)
        .outerjoin(studies, studies.c.study_uid == rows_of_ledger.c.study_uid)
        .where(rows_of_ledger.c.kind == ledger.Kind.RESULT_LATE, rows_of_ledger.c.at >= moment(since, time.time()))
        .order_by(rows_of_ledger.c.id)
    )
    with opened(settings) as store, store.read() as connection:
        found = connection.execute(statement).all()
    show([_row(row) for row in found], as_json=as_json, empty="no result came after its report was signed")


def _row(row: Any) -> dict[str, Any]:
    result = row.result or {}
    sent = "sent, marked late" if row.detail.get("marked") else "sent"
    return {
        "result_at": row.at,
        "late_minutes": round(float(row.detail["late_seconds"]) / 60.0, 1),
        "accession_number": row.accession_number,
        "rule": row.rule,
        "outcome": result.get("outcome"),
        "total_ml": result.get("total_ml"),
        "became": "withheld" if row.detail["policy"] == "withhold" else sent,
        "superseded": row.superseded_at is not None,
        "job": row.job_id,
        "study_uid": row.study_uid,
    }
