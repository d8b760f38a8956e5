"""``ainode corpus``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import new_app

if TYPE_CHECKING:
    from node.archive.engine import Store

app = new_app("The site's de-identified reports, for chains that look things up.")


@app.command()
def add(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Text files, one report each, UTF-8.")],
    language: Annotated[str, typer.Option("--language", help="en or ja.")] = "en",
) -> None:
    """Take reports in; what looks like a name, number or date is removed first, and what cannot be cleaned is left out."""
    from node.archive import report_corpus
    from node.errors import UsageError

    if language not in ("en", "ja"):
        raise UsageError("--language is en or ja")
    taken = 0
    with _store(ctx).write() as connection:
        for path in paths:
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{path} cannot be read as text ({type(error).__name__})") from error
            taken += report_corpus.add(connection, time.time(), text, language=language)
    typer.echo(f"{taken} of {len(paths)} reports taken in")


@app.command()
def count(ctx: typer.Context) -> None:
    """How many reports there are."""
    from node.archive import report_corpus

    with _store(ctx).read() as connection:
        typer.echo(str(report_corpus.count(connection)))


@app.command()
def remove(ctx: typer.Context, number: Annotated[int, typer.Argument(help="Number, as drafts quote it.")]) -> None:
    """Forget a report."""
    from node.archive import report_corpus
    from node.errors import NotStored

    with _store(ctx).write() as connection:
        if not report_corpus.remove(connection, number):
            raise NotStored(f"there is no report {number}")
    typer.echo(f"report {number} is gone")


def _store(ctx: typer.Context) -> Store:
    from node.archive.engine import open_store

    return open_store(ctx.obj.settings())
