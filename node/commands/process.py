"""``ainode process``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli import new_app

app = new_app()


@app.command()
def process(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files or folders of one study.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where NAME.dcm files are written.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Model id; else that of the first rule that fires, else the default.")
    ] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Profile of node.toml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """Analyse DICOM files offline. With --config the objects are those the node would send, byte for byte.

    Exit code 0 when the study was assessed, 1 when it was refused; then a status object says why.
    """
    import json

    from node.commands.text_bar import text_bar
    from node.offline import process_study

    with text_bar() as bar:
        report = process_study(ctx.obj.settings(), paths, out, model_id=model, profile=profile, progress=bar)
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        for text in report["texts"].values():
            typer.echo(text)
        if report["refusal"]:
            typer.echo(f"not assessed, {report['refusal']['code']}: {report['refusal']['message']}")
        for each in report["objects"]:
            typer.echo(f"{each['path']}  {each['size']} bytes")
    if report["outcome"] == "not_assessed":
        raise typer.Exit(1)
