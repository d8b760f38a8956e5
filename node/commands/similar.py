"""``ainode similar``."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened, show

app = new_app("Studies of this hospital that a model finds alike: list, forget.")

StudyUid = Annotated[str, typer.Argument(help="Study Instance UID.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    study_uid: StudyUid,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """List the studies most alike to one, by key: nobody is named."""
    from node import similar

    settings = ctx.obj.settings()
    with opened(settings) as store, store.read() as connection:
        rows = similar.listed(connection, settings, study_uid)
    show(rows, as_json=as_json, empty="nothing alike is known")


@app.command()
def forget(
    ctx: typer.Context,
    study_uid: Annotated[str | None, typer.Argument(help="Study Instance UID.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Empty the index.")] = False,
) -> None:
    """Remove a study from the index, or everything."""
    from node.archive.similar import StoredIndex, forget_all, study_key
    from node.errors import UsageError

    if (study_uid is None) == (not everything):
        raise UsageError("name one study, or say --all")
    settings = ctx.obj.settings()
    with opened(settings) as store, store.write() as connection:
        if study_uid is None:
            removed = forget_all(connection)
        else:
            index = StoredIndex(connection, 0.0, keep_days=settings.similar.keep_days)
            removed = index.forget(study_key(settings.data_dir, study_uid))
    typer.echo(f"{removed} removed from the index of similar studies")
