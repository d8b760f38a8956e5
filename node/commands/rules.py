"""``ainode rules``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli import new_app

app = new_app("Test which rules a study matches, and why; replay what has arrived.")


@app.callback()
def _group() -> None:
    """Test which rules a study matches, and why; replay what has arrived."""


@app.command()
def test(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files or folders.")],
    calling: Annotated[str, typer.Option("--calling", help="AE title they would come from.")] = "",
    called: Annotated[str, typer.Option("--called", help="AE title they would be sent to.")] = "",
    order: Annotated[
        Path | None, typer.Option("--order", help="JSON of an order, with the keys of `ainode worklist --json`.")
    ] = None,
    at: Annotated[str, typer.Option("--at", metavar="HH:MM", help="Time of day; now where it is left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """Say for each study in PATH which rules would fire, and why the others would not."""
    from node import routing
    from node.offline import studies_in

    settings = ctx.obj.settings()
    orders, minute = _ordered(order), _minute(at)
    report: list[dict[str, Any]] = []
    for study in studies_in(paths):
        facts = study.facts(calling_ae_title=calling, called_ae_title=called or settings.node.ae_title)
        circumstances = routing.Circumstances(study.study_uid, orders, minute)
        for verdict in routing.match(settings.rule, facts, circumstances):
            report.append(
                {
                    "study_uid": study.study_uid,
                    "instances": len(study.files),
                    "rule": verdict.rule.name,
                    "matched": verdict.matched,
                    "model": verdict.rule.model,
                    "destinations": list(verdict.rule.destinations),
                    "shadow": verdict.rule.shadow,
                    "early": verdict.rule.early,
                    "series": None if verdict.series is None else sorted(verdict.series),
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
        kind = ", shadow: nothing leaves" if line["shadow"] else ""
        fires = f"FIRES, model {line['model']}{kind}" if line["matched"] else "does not fire"
        typer.echo(f"  rule {line['rule']}: {fires}")
        for sentence in line["explanation"]:
            typer.echo(f"    {sentence}")
    if not settings.rule:
        typer.echo("no rules: nothing would run")


@app.command("dry-run")
def dry_run(
    ctx: typer.Context,
    days: Annotated[float, typer.Option("--days", min=0, help="So many days back.")] = 7.0,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """Replay what has arrived with the settings and rules as they are in the files now: what would have run, when, on what.

    Nothing is started and nothing written. The column then tells what was decided at the time.
    """
    from node.commands.table import opened
    from node.replay import replay_since

    settings = ctx.obj.settings()
    with opened(settings) as store, store.read() as connection:
        report = [each.to_dict() for each in replay_since(connection, time.time() - days * 86400.0, settings)]
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    for line in report:
        typer.echo(f"study {line['study_uid']}: {line['instances']} image(s)")
        for decision in line["decisions"]:
            kind = "complete" if decision["final"] else "provisional"
            typer.echo(
                f"  {_clock(decision['at'])}  {kind}, run {decision['run']}: {decision['reason']}, "
                f"{decision['after_last_image']:.1f} s after the last image"
            )
            for words in decision["evidence"]:
                typer.echo(f"    {words}")
            for rule in decision["rules"]:
                fires = f"fires on {rule['instances']} image(s)" if rule["matched"] else "does not fire"
                typer.echo(f"    rule {rule['rule']}: {fires}")
        then = ", ".join(f"run {each['run']} {each['reason']} at {_clock(each['at'])}" for each in line["then"])
        typer.echo(f"  then: {then or 'nothing was decided'}")
    if not report:
        typer.echo("nothing arrived in this time")


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _ordered(file: Path | None) -> tuple[Any, ...]:
    """Orders in a file: one, or a list of them.

    Raises
    ------
    UsageError
        It holds none.
    """
    from node.errors import UsageError
    from node.orders import Order

    if file is None:
        return ()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return tuple(
            Order.from_dict(each.get("order", each)) for each in (content if isinstance(content, list) else [content])
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: holds no order: {type(error).__name__}") from error


def _minute(at: str) -> int:
    from node.errors import UsageError

    if not at:
        now = time.localtime()
        return now.tm_hour * 60 + now.tm_min
    try:
        clock = time.strptime(at, "%H:%M")
    except ValueError as error:
        raise UsageError(f"--at {at}: write a time of day like 22:30") from error
    return clock.tm_hour * 60 + clock.tm_min
