"""``ainode worklist``."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import new_app
from node.commands.table import opened, show

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from node.settings import Settings

app = new_app()
_PATIENT = ("patient_", "issuer_of_patient_id")


@app.command()
def worklist(
    ctx: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="Stable JSON, with the order as `rules test --order` takes it.")
    ] = False,
    days: Annotated[int, typer.Option("--days", min=1, help="Today and so many days on, less one.")] = 1,
) -> None:
    """List what is expected today, what has come of it, and what the node intends for each entry. Shows no patient."""
    from node.archive import orders

    settings = ctx.obj.settings()
    midnight = time.mktime((*time.localtime()[:3], 0, 0, 0, 0, 0, -1))
    with opened(settings) as store, store.read() as connection:
        rows = orders.between(connection, midnight, midnight + days * 86400.0 - 1.0)
        entries = [_entry(connection, row, settings) for row in rows]
    if as_json:
        typer.echo(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    show(
        [{key: value for key, value in entry.items() if key not in ("order", "study_uid")} for entry in entries],
        as_json=False,
        empty="nothing is expected" if settings.worklist else "no worklist is configured",
    )


def _entry(connection: Connection, row: Row[Any], settings: Settings) -> dict[str, Any]:
    from node.intentions import intended, procedure_words
    from node.orders import Order

    order = Order.from_dict(row.content)
    rules = intended(order, settings.rule)
    return {
        "starts_at": row.starts_at,
        "worklist": row.source,
        "modality": order.modality,
        "station": order.station_name or order.station_ae_title,
        "procedure": procedure_words(order, language=settings.node.language, parts=settings.node.jj1017_parts),
        "priority": order.priority or None,
        "accession_number": order.accession_number,
        "state": _state(connection, row),
        "intends": ", ".join(rules) or "nothing: no rule fits the order",
        "priors": _priors(row, settings),
        "study_uid": order.study_uid,
        "order": {key: value for key, value in order.to_dict().items() if not key.startswith(_PATIENT)},
    }


def _state(connection: Connection, row: Row[Any]) -> str:
    """``expected``, ``overdue``, ``gone`` from the worklist, or the state of the study that has come."""
    from sqlalchemy import or_, select

    from node.archive.tables import studies

    named = studies.c.study_uid == (row.study_uid or "-")
    if row.accession_number:
        named = or_(named, studies.c.accession_number == row.accession_number)
    found = connection.execute(select(studies.c.state).where(named).limit(1)).scalar_one_or_none()
    if found is not None:
        return f"images {found}"
    if row.gone_at is not None:
        return "gone from the worklist"
    late = row.starts_at is not None and row.starts_at < time.time() - 3600.0
    return "overdue" if late else "expected"


def _priors(row: Row[Any], settings: Settings) -> str | None:
    if row.priors is None:
        return "not looked for yet" if settings.priors.archive else None
    instances = sum(each["completed"] for each in row.priors)
    failed = sum(each["failed"] for each in row.priors)
    problem = f", {failed} FAILED" if failed else ""
    return f"{len(row.priors)} study(ies), {instances} instance(s){problem}" if row.priors else "none that matters"
