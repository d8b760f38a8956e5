"""``ainode backfill``."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import new_app
from node.commands.reconcile import archive_named
from node.commands.table import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.archive.engine import Store
    from node.settings import Settings

app = new_app()


@app.command()
def backfill(
    ctx: typer.Context,
    since: Annotated[str, typer.Option("--since", metavar="T", help="3h, 2d, a date, or a date and time.")],
    until: Annotated[str, typer.Option("--until", metavar="T", help="As --since.")] = "0m",
    destination: Annotated[
        str | None, typer.Option("--destination", metavar="D", help="The archive; else reconcile.archive.")
    ] = None,
    modality: Annotated[list[str] | None, typer.Option("--modality", metavar="M", help="Only these.")] = None,
    priors: Annotated[
        bool, typer.Option("--priors", help="Earlier studies of what came in this time, into the space of priors.")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many studies.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """Fetch old studies, one at a time; slower as soon as the archive answers more slowly than it did.

    What runs on them has off-peak priority. Stopped at any time, the same command goes on where it stopped.
    """
    from node.site_time import since as moment

    settings = ctx.obj.settings()
    now = time.time()
    first, last = moment(since, now), moment(until, now)
    with opened(settings) as store:
        if priors:
            totals = _priors(settings, store, first, last, limit)
        else:
            archive = archive_named(settings, destination)
            totals = _studies(settings, store, archive, (first, last), modality or [], limit, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(totals, indent=2))
    else:
        typer.echo(", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in totals.items()))


def _studies(
    settings: Settings,
    store: Store,
    archive: str,
    time_range: tuple[float, float],
    modalities: list[str],
    limit: int | None,
    *,
    quiet: bool,
) -> dict[str, Any]:
    from node.archive import archive_studies
    from node.dicom.reconciliation import Reconciler
    from node.dicom.study_fetch import StudyFetcher
    from node.pace import Pace

    listed, queued, truncated = Reconciler(settings, store).backfill(archive, *time_range, modalities=modalities)
    fetcher, pace = StudyFetcher(settings, store), Pace()
    studies = images = problems = 0
    for _ in _turns(limit):
        fetched = fetcher.fetch_next("backfill")
        if fetched is None:
            break
        good = fetched.state == "done"
        studies, images, problems = studies + good, images + fetched.completed, problems + (not good)
        pace = pace.after(fetched.response_seconds) if fetched.response_seconds else pace.refused()
        if not quiet:
            slow = f"; the archive is slow, waiting {pace.pause_seconds:.1f} s" if pace.pause_seconds else ""
            typer.echo(f"{fetched.study_uid}: {fetched.completed} image(s) {fetched.message}{slow}", err=True)
        time.sleep(pace.pause_seconds)
    with store.read() as connection:
        left = archive_studies.count_waiting(connection, purposes=("backfill",))
    return {
        "listed": listed,
        "queued": queued,
        "fetched": studies,
        "images": images,
        "problems": problems,
        "waiting": left,
        "whole": not truncated,
    }


def _priors(settings: Settings, store: Store, first: float, last: float, limit: int | None) -> dict[str, Any]:
    """Earlier studies for what has come without an order, or before there were priors."""
    from node.dicom.prior_fetch import PriorFetcher
    from node.errors import PeerError, UsageError
    from node.pace import Pace

    if settings.priors.archive is None:
        raise UsageError("priors.archive names none; earlier studies have nowhere to come from")
    fetcher, pace = PriorFetcher(settings, store), Pace()
    studies = images = problems = 0
    for _, order in zip(_turns(limit), _as_orders(store, first, last), strict=False):
        try:
            brought = fetcher.fetch(order, None)
            pace = pace.after(fetcher.response_seconds)
            images += sum(each["completed"] for each in brought if each["method"] != "here")
            studies += 1
        except PeerError as error:
            typer.echo(f"earlier studies cannot be looked for: {error}", err=True)
            pace, problems = pace.refused(), problems + 1
        time.sleep(pace.pause_seconds)
    return {"studies": studies, "images": images, "problems": problems}


def _as_orders(store: Store, first: float, last: float) -> list[Any]:
    """Each study of a time as the order it might have come from."""
    from sqlalchemy import select, true

    from node.archive.tables import instances, studies
    from node.orders import Order

    came = studies.c.first_at.between(first, last)
    seen: dict[str, Order] = {}
    with store.read() as connection:
        for row in connection.execute(
            select(instances)
            .join(studies, studies.c.study_uid == instances.c.study_uid)
            .where(came, instances.c.active == true(), ~instances.c.ours)
            .order_by(instances.c.id)
        ):
            words = row.headers.get("study_description")
            seen.setdefault(
                row.study_uid,
                Order(
                    study_uid=row.study_uid,
                    patient_id=row.patient_id,
                    issuer_of_patient_id=row.issuer_of_patient_id,
                    modality=row.modality,
                    requested_procedure_description=" ".join(words) if isinstance(words, list) else str(words or ""),
                ),
            )
    return list(seen.values())


def _turns(limit: int | None) -> Iterator[int]:
    number = 0
    while limit is None or number < limit:
        yield number
        number += 1
