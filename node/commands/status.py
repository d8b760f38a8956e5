"""``ainode status``: asks the running node; opens no database."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli import new_app
from node.jobs.progress import Progress
from node.status import ask
from node.toml_file import data_dir_of

app = new_app()

_STALE_SECONDS = 10.0
_PROOFS = {"query": "of them found by query", "unverifiable": "of them stored, UNVERIFIABLE"}


@app.command()
def status(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False) -> None:
    """Ask the running node how it is. Exit code 1 when none answers."""
    tell_status(ctx.obj.config, as_json=as_json)


def tell_status(config: Path | None, *, as_json: bool) -> None:
    """Print the answer of the node that ``config`` names.

    Raises
    ------
    NodeNotRunning
        Nobody answers.
    """
    report = ask(data_dir_of(config))
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    for line in _lines(report):
        typer.echo(line)


def _host_lines(report: dict[str, Any]) -> list[str]:
    """How model hosts are shut in, each way once; nothing while a node of an older version still runs."""
    return [
        f"model hosts are {words}" for words in dict.fromkeys(each["words"] for each in report.get("model_hosts", []))
    ]


def _lines(report: dict[str, Any]) -> list[str]:
    listen, summary = report["listen"], report["summary"]
    guarantee = "survives a power cut" if report["survives_power_cut"] else "survives process death, NOT a power cut"
    ports = [f"{listen['host']}:{listen['port']}"] if listen["port"] else []
    if secure := report.get("listen_tls"):
        ports.append(f"{secure['host']}:{secure['port']} (TLS)")
    lines = [
        f"{report['node']} ({report['ae_title']}) {report['version']}, up {report['uptime_seconds']:.0f} s",
        f"listens on {' and '.join(ports)}, mode {report['mode']}: success {guarantee}",
        "",
    ]
    for process in report["processes"]:
        state = f"pid {process['pid']}" if process["running"] else "DOWN"
        again = f", {process['restarts']} restart(s), last by {process['last_ending']}" if process["restarts"] else ""
        lines.append(f"  {process['name']:<16} {state}{again}")
    lines += _host_lines(report)
    disk = report.get("disk") or {}  # absent while a node of an older version still runs
    if disk.get("free_bytes") is not None and disk["free_bytes"] < disk["reserve_bytes"]:
        lines.append(
            f"DISK FULL: {disk['free_bytes'] // 1024**2} MiB free, reserve {disk['reserve_bytes'] // 1024**2} MiB: "
            "senders get A700 until there is room"
        )
    for each in report.get("alarms", []):  # absent while a node of an older version still runs
        what = f"{each['alarm']} {each['subject']}".strip()
        lines.append(f"ALARM {what}: {each['words']} (docs/alerts.md#{each['alarm']})")
    if "at" not in summary:
        lines.append("counts are not known yet")
    elif (age := time.time() - summary["at"]) > _STALE_SECONDS:
        lines.append(f"the counts below are {age:.0f} s old: scheduler or database are stuck, see the log")
    lines += _count_lines(summary)
    for held in summary.get("held", []):
        lines.append(f"HELD {held['study_uid']}: {held['reason']}")
    for old in summary.get("outdated", []):
        lines.append(
            f"OLD IDENTITY {old['study_uid']}: {old['deliveries']} object(s) at destinations, see `ainode corrections`"
        )
    for stopped in summary.get("paused", []):
        what = f"{stopped['scope']} {stopped['name']}".strip()
        lines.append(f"PAUSED {what} by {stopped['by']}: {stopped['reason']}")
    lines += _writing_lines(report)
    for name, counts in summary.get("destinations", {}).items():
        proofs = summary.get("proofs", {}).get(name, {})
        known = "".join(f", {count} {_PROOFS[proof]}" for proof, count in proofs.items() if proof in _PROOFS)
        lines.append(f"to {name:<9} " + ", ".join(f"{count} {state}" for state, count in counts.items()) + known)
    for name, end in summary.get("downtime", {}).items():
        lines.append(f"{name}: planned downtime until {time.strftime('%Y-%m-%d %H:%M', time.localtime(end))}")
    return lines


def _writing_lines(report: dict[str, Any]) -> list[str]:
    """How far texts are; absent while a node of an older version still runs."""
    return [
        f"job {job}: {each['model']} writes, {Progress(**each).words()}"
        for job, each in report.get("writing", {}).items()
    ]


def _count_lines(summary: dict[str, Any]) -> list[str]:
    """How many there are in each state. Where nobody is told anything, nothing is said of it."""
    always = ("studies", "jobs", "deliveries")
    counted = [what for what in (*always, "alerts", "notifications") if what in always or summary.get(what)]
    return [
        f"{what:<12} " + (", ".join(f"{count} {state}" for state, count in summary.get(what, {}).items()) or "none")
        for what in counted
    ]
