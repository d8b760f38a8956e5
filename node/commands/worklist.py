"""``ainode worklist``."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import new_app
from node.commands.table import opened, show

if TYPE_CHECKING:
    from sqlalchemy import Row

    from node.expectations import Expectation
    from node.settings import Settings

app = new_app()
_PATIENT = ("patient_", "issuer_of_patient_id")
_WORDS = {"expected": "expected", "overdue": "overdue", "gone": "gone from the worklist"}


@app.command()
def worklist(
    ctx: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="Stable JSON, with the order as `rules test --order` takes it.")
    ] = False,
    days: Annotated[int, typer.Option("--days", min=1, help="Today and so many days on, less one.")] = 1,
) -> None:
    """List what is expected today, what has come of it, and what the node intends for each entry. Shows no patient."""
    from node.expectations import expectations
    from node.site_time import midnight

    settings, now = ctx.obj.settings(), time.time()
    begin = midnight(now)
    with opened(settings) as store, store.read() as connection:
        found = expectations(connection, now, begin, begin + days * 86400.0 - 1.0, settings)
    entries = [_entry(each, settings) for each in found]
    if as_json:
        typer.echo(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    show(
        [{key: value for key, value in entry.items() if key not in ("order", "study_uid")} for entry in entries],
        as_json=False,
        empty="nothing is expected" if settings.worklist else "no worklist is configured",
    )


def _entry(expectation: Expectation, settings: Settings) -> dict[str, Any]:
    order, row = expectation.order, expectation.row
    return {
        "starts_at": row.starts_at,
        "worklist": row.source,
        "modality": order.modality,
        "station": expectation.station,
        "procedure": expectation.procedure,
        "priority": order.priority or None,
        "accession_number": order.accession_number,
        "state": f"images {expectation.study_state}" if expectation.study_state else _WORDS[expectation.state],
        "intends": ", ".join(expectation.intends) or "nothing: no rule fits the order",
        "priors": _priors(row, settings),
        "study_uid": order.study_uid,
        "order": {key: value for key, value in order.to_dict().items() if not key.startswith(_PATIENT)},
    }


def _priors(row: Row[Any], settings: Settings) -> str | None:
    if row.priors is None:
        return "not looked for yet" if settings.priors.archive else None
    instances = sum(each["completed"] for each in row.priors)
    failed = sum(each["failed"] for each in row.priors)
    problem = f", {failed} FAILED" if failed else ""
    return f"{len(row.priors)} study(ies), {instances} instance(s){problem}" if row.priors else "none that matters"
