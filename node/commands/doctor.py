"""``ainode doctor``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import new_app

if TYPE_CHECKING:
    from node.settings import Settings

app = new_app()

PAGES = {
    "disk": "disk-full",
    "permissions": "installation",
    "time zone": "installation",
    "certificates": "certificate-expires",
    "database": "database-not-writable",
    "files": "installation",
    "work": "dead-letters",
    "models": "model-self-test",
    "model hosts": "installation",
    "node": "process-silent",
    "alarms": "installation",
    "peers": "breaker-open",
    "clock": "installation",
    "names": "installation",
}
"""Examination → section of docs/alerts.md."""


@app.command()
def doctor(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False) -> None:
    """Look for what is wrong with this installation. Exit code 1 when something is."""
    from models.errors import NodeError
    from node.monitor.condition import PAGE

    settings = ctx.obj.settings()
    findings = []
    for name, examine in examinations().items():
        page = f"{PAGE}#{PAGES[name]}"
        try:
            finding, good, remedy = examine(settings), True, ""
        except NodeError as error:
            finding, good, remedy = str(error), False, error.remedy
        findings.append({"check": name, "good": good, "finding": finding, "remedy": remedy, "page": page})
    if as_json:
        typer.echo(json.dumps(findings, indent=2, ensure_ascii=False))
    else:
        for each in findings:
            typer.echo(f"{'good' if each['good'] else 'BAD ':<4}  {each['check']:<14} {each['finding']}")
            if not each["good"]:
                typer.echo(f"{'':<22}{each['remedy']} ({each['page']})")
    if not all(each["good"] for each in findings):
        raise typer.Exit(1)


def examinations() -> dict[str, Callable[[Settings], str]]:
    """Name → examination: gives a finding, or raises with a remedy."""
    from node.doctor import confinement, contents, installation, surroundings

    return {
        "names": installation.names,
        "disk": installation.disk,
        "permissions": installation.permissions,
        "time zone": installation.time_zone,
        "database": contents.database,
        "files": contents.files,
        "work": contents.work,
        "certificates": installation.certificates,
        "models": contents.models,
        "model hosts": confinement.model_hosts,
        "node": surroundings.node,
        "alarms": surroundings.alarms,
        "peers": surroundings.peers,
        "clock": surroundings.clock,
    }
