"""``ainode doctor``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Annotated

import typer

from node.cli import new_app
from node.settings import Settings

app = new_app()
CERTIFICATE_DAYS = 14


@app.command()
def doctor(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False) -> None:
    """Look for what is wrong with this installation. Exit code 1 when something is."""
    from models.errors import NodeError

    settings = ctx.obj.settings()
    findings = []
    for name, examine in CHECKS.items():
        try:
            findings.append({"check": name, "good": True, "finding": examine(settings), "remedy": ""})
        except NodeError as error:
            findings.append({"check": name, "good": False, "finding": str(error), "remedy": error.remedy})
    if as_json:
        typer.echo(json.dumps(findings, indent=2, ensure_ascii=False))
    else:
        for each in findings:
            typer.echo(f"{'good' if each['good'] else 'BAD ':<4}  {each['check']:<14} {each['finding']}")
            if each["remedy"]:
                typer.echo(f"{'':<22}{each['remedy']}")
    if not all(each["good"] for each in findings):
        raise typer.Exit(1)


def _names(settings: Settings) -> str:
    from node import name_conflict

    name_conflict.check()
    return "no other distribution owns a package name of this product"


def _disk(settings: Settings) -> str:
    from node.errors import SpoolFull

    folder = next(each for each in (settings.data_dir, *settings.data_dir.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if free < settings.receive.disk_reserve_bytes:
        raise SpoolFull(f"{free} bytes are free, the reserve is {settings.receive.disk_reserve_bytes}")
    return f"{free // 1024**2} MiB free in {folder}"


def _database(settings: Settings) -> str:
    from node.commands.table import opened

    with opened(settings) as store:
        return f"{store.dialect} answers and has this version's schema"


def _certificates(settings: Settings) -> str:
    from datetime import UTC, datetime

    from node.dicom.files import check_files
    from node.errors import TlsUnusable

    ends = check_files(settings)
    if ends is None:
        return "none configured"
    days = (ends - datetime.now(UTC)).days
    if days < CERTIFICATE_DAYS:
        raise TlsUnusable(f"a certificate expires in {days} days, on {ends:%Y-%m-%d}")
    return f"usable, the first expires on {ends:%Y-%m-%d}"


def _models(settings: Settings) -> str:
    from models.registry import Registry

    registry = Registry(settings.models.folders, threads=1)
    wanted = {each for rule in settings.rule for each in (rule.model, rule.report_model) if each}
    for model_id in sorted(wanted):
        registry.get(model_id)
    return f"{len(registry.list())} installed, {len(wanted)} named by rules"


def _node(settings: Settings) -> str:
    from node.errors import ChildDied
    from node.status import ask

    report = ask(settings.data_dir)
    if down := [each["name"] for each in report["processes"] if not each["running"]]:
        raise ChildDied(f"these processes are down: {', '.join(down)}")
    return f"running, {len(report['processes'])} processes"


CHECKS: dict[str, Callable[[Settings], str]] = {
    "names": _names,
    "disk": _disk,
    "database": _database,
    "certificates": _certificates,
    "models": _models,
    "node": _node,
}
