"""``ainode conformance-statement``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli import new_app

app = new_app()


@app.command()
def conformance_statement(
    ctx: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="F", help="File that ends in .md, .html or .pdf; else Markdown here."),
    ] = None,
) -> None:
    """Write the DICOM conformance statement (PS3.2) of this configuration."""
    from node.conformance.blocks import as_html, as_markdown
    from node.conformance.statement import statement
    from node.errors import UsageError

    blocks = statement(ctx.obj.settings())
    if out is None:
        typer.echo(as_markdown(blocks), nl=False)
        return
    match out.suffix.lower():
        case ".md":
            out.write_text(as_markdown(blocks), encoding="utf-8")
        case ".html":
            out.write_text(as_html(blocks), encoding="utf-8")
        case ".pdf":
            from node.conformance.pdf import as_pdf

            out.write_bytes(as_pdf(blocks))
        case _:
            raise UsageError(f"--out: {out.name} ends neither in .md nor in .html nor in .pdf")
    typer.echo(str(out))
