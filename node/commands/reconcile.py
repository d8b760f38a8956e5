"""``ainode reconcile``."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import new_app
from node.commands.table import opened, show

if TYPE_CHECKING:
    from node.archive.engine import Store
    from node.dicom.reconciliation import Reconciled
    from node.settings import Settings

app = new_app()


@app.command()
def reconcile(
    ctx: typer.Context,
    since: Annotated[str, typer.Option("--since", metavar="T", help="3h, 2d, a date, or a date and time.")],
    destination: Annotated[
        str | None, typer.Option("--destination", metavar="D", help="The archive; else reconcile.archive.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch what is missing, STAT first; the node runs it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """Hold what the archive has against what is here and answered: missing, late, unanswered. Shows no patient.

    Only studies that a rule may want are looked at. Exit code 1 where the archive could not be asked.
    """
    from node.dicom.reconciliation import Reconciler
    from node.site_time import since as moment

    settings = ctx.obj.settings()
    archive = archive_named(settings, destination)
    with opened(settings) as store:
        told = Reconciler(settings, store).reconcile(archive, moment(since, time.time()), fetch=fetch)
        fetched = _fetch(settings, store, quiet=as_json) if fetch else {}
    if as_json:
        typer.echo(json.dumps(_as_json(told, fetched), indent=2, ensure_ascii=False))
        return
    typer.echo(
        f"{archive}: {told.listed} studies listed, {told.wanted} that a rule may want, {len(told.found)} findings"
    )
    if told.truncated:
        typer.echo("NOT ALL of them: the archive had more in ten minutes than reconcile.maximum_studies")
    rows = [{key: value for key, value in row.items() if key != "study_uid"} for row in _rows(told, fetched)]
    show(rows, as_json=False, empty="everything is here and answered")


def archive_named(settings: Settings, destination: str | None) -> str:
    """The archive that is meant.

    Raises
    ------
    UsageError
        None is, or there is no such archive.
    """
    from node.errors import UsageError

    archive = destination or settings.reconcile.archive
    if archive is None:
        raise UsageError("name the archive: --destination D, or reconcile.archive in the configuration")
    if archive not in settings.archives:
        known = ", ".join(sorted(settings.archives)) or "none"
        raise UsageError(f"there is no [destination.{archive}] or [web_source.{archive}]; there are {known}")
    return archive


def _fetch(settings: Settings, store: Store, *, quiet: bool) -> dict[str, str]:
    """Fetch what waits now; study → what became of it. What fails is tried again by the running node."""
    from node.dicom.study_fetch import StudyFetcher

    fetcher, became = StudyFetcher(settings, store), dict[str, str]()
    while (fetched := fetcher.fetch_next("reconcile")) is not None:
        words = f"{fetched.completed} image(s) by {fetched.method}"
        words += f", {fetched.failed} FAILED" if fetched.failed else ""
        words += f": {fetched.message}" if fetched.message else ""
        became[fetched.study_uid] = words
        if not quiet:
            typer.echo(f"fetched {fetched.study_uid}: {words}", err=True)
    return became


def _rows(told: Reconciled, fetched: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "finding": str(each.verdict.finding),
            "priority": each.priority.name.lower().replace("_", "-"),
            "starts_at": each.study.starts_at,
            "modalities": "/".join(each.modalities),
            "accession_number": each.study.accession_number,
            "words": each.verdict.words,
            "fetched": fetched.get(each.study.study_uid),
            "study_uid": each.study.study_uid,
        }
        for each in told.found
    ]


def _as_json(told: Reconciled, fetched: dict[str, str]) -> dict[str, Any]:
    return {
        "archive": told.archive,
        "since": told.since,
        "listed": told.listed,
        "wanted": told.wanted,
        "whole": not told.truncated,
        "findings": _rows(told, fetched),
    }
