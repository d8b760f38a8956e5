"""``ainode rules``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli import new_app

app = new_app("Test which rules a study matches, and why.")


@app.callback()
def _group() -> None:
    """Test which rules a study matches, and why."""


@app.command()
def test(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files or folders.")],
    calling: Annotated[str, typer.Option("--calling", help="AE title they would come from.")] = "",
    called: Annotated[str, typer.Option("--called", help="AE title they would be sent to.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """Say for each study in PATH which rules would fire, and why the others would not."""
    from node import routing
    from node.offline import studies_in

    settings = ctx.obj.settings()
    report: list[dict[str, Any]] = []
    for study in studies_in(paths):
        facts = study.facts(calling_ae_title=calling, called_ae_title=called or settings.node.ae_title)
        for verdict in routing.match(settings.rule, facts):
            report.append(
                {
                    "study_uid": study.study_uid,
                    "instances": len(study.files),
                    "rule": verdict.rule.name,
                    "matched": verdict.matched,
                    "model": verdict.rule.model,
                    "destinations": list(verdict.rule.destinations),
                    "explanation": list(verdict.explanation),
                }
            )
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    named = ""
    for line in report:
        if line["study_uid"] != named:
            named = line["study_uid"]
            typer.echo(f"study {named} ({line['instances']} files)")
        typer.echo(f"  rule {line['rule']}: {'FIRES, model ' + line['model'] if line['matched'] else 'does not fire'}")
        for sentence in line["explanation"]:
            typer.echo(f"    {sentence}")
    if not settings.rule:
        typer.echo("no rules: nothing would run")
