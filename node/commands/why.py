"""``ainode why``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app()


@app.command()
def why(
    ctx: typer.Context,
    reference: Annotated[
        str, typer.Argument(help="Accession number; Study, Series or SOP Instance UID; or a job's number.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The events themselves.")] = False,
) -> None:
    """Tell the story of a study, from first byte to commitment."""
    from node import similar
    from node.archive.story import story
    from node.errors import NotStored
    from node.why import tell

    settings = ctx.obj.settings()
    with opened(settings) as store, store.read() as connection:
        if as_json:
            facts = [asdict(fact) for fact in story(connection, reference)]
            typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
            return
        text = tell(connection, reference)
        alike = similar.told(similar.listed(connection, settings, reference)) if settings.similar.enabled else ""
    if not text:
        raise NotStored("nothing is known under this accession number, UID or job number")
    typer.echo(f"{text}\n{alike}" if alike else text)
