"""``ainode digest``."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from node.cli import new_app

app = new_app()


@app.command()
def digest(
    ctx: typer.Context,
    since: Annotated[str, typer.Option("--since", help="Like 24h, 7d, or a date and time.")] = "24h",
    language: Annotated[list[str] | None, typer.Option("--language", help="en or ja; may be given twice.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """Count per rule what was expected, arrived, answered, late and refused. Nothing of a patient."""
    from node.commands.table import opened
    from node.digest import lines, make_digest
    from node.errors import UsageError
    from node.site_time import since as moment

    settings = ctx.obj.settings()
    languages = language or settings.monitor.digest_languages
    if unknown := set(languages) - {"en", "ja"}:
        raise UsageError(f"--language: there is no {sorted(unknown)[0]}; write en or ja")
    until = time.time()
    with opened(settings) as store, store.read() as connection:
        found = make_digest(connection, settings, moment(since, until), until)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
        return
    for line in lines(found, languages):
        typer.echo(line)
