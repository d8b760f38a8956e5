"""``ainode run PROCESS``: one process of the node."""

from __future__ import annotations

from typing import Annotated

import typer

from node import log
from node.cli import new_app
from node.process import die_with_parent, forbid_core_dumps, leave, stop_event
from node.settings import Settings

app = new_app("Run one process of the node.")


@app.command()
def receiver(ctx: typer.Context) -> None:
    """Answer C-ECHO and C-STORE; take commitment reports. Uses an inherited socket (LISTEN_FDS) where there is one."""
    settings = _begin(ctx, "receiver")
    from node.dicom.storage_scp import run_receiver
    from node.listening import listening

    stop = stop_event()
    with listening(settings) as listeners:
        run_receiver(settings, stop, listeners)
    leave()


@app.command()
def scheduler(ctx: typer.Context) -> None:
    """Decide when studies are complete, match rules, sweep leases, seal the ledger."""
    settings = _begin(ctx, "scheduler")
    from node.schedule import run_scheduler

    run_scheduler(settings, stop_event())
    leave()


@app.command()
def dispatcher(
    ctx: typer.Context,
    stat_only: Annotated[bool, typer.Option("--stat-only", help="Take STAT runs only.")] = False,
) -> None:
    """Lease jobs and run them in a model-host child."""
    settings = _begin(ctx, "dispatcher-stat" if stat_only else "dispatcher")
    from node.jobs.dispatcher import run_dispatcher

    run_dispatcher(settings, stop_event(), stat_only=stat_only)
    leave()


@app.command()
def sender(ctx: typer.Context) -> None:
    """Send what waits in the outbox, and ask for proof."""
    settings = _begin(ctx, "sender")
    from node.delivery.sender import run_sender

    run_sender(settings, stop_event())
    leave()


@app.command()
def notifier(ctx: typer.Context) -> None:
    """Tell people and systems about results, and escalate."""
    settings = _begin(ctx, "notifier")
    from node.notify.notifier import run_notifier

    run_notifier(settings, stop_event())
    leave()


@app.command()
def hl7(ctx: typer.Context) -> None:
    """Take HL7 v2 messages over MLLP."""
    settings = _begin(ctx, "hl7")
    from node.hl7.listener import run_hl7

    run_hl7(settings, stop_event())
    leave()


@app.command()
def web(ctx: typer.Context) -> None:
    """Serve the console."""
    settings = _begin(ctx, "web")
    from node.web.server import run_web

    run_web(settings, stop_event())
    leave()


@app.command()
def monitor(ctx: typer.Context) -> None:
    """Watch the node: processes, disk, certificates, canary; raise alarms, send audit messages."""
    settings = _begin(ctx, "monitor")
    from node.monitor.process import run_monitor

    run_monitor(settings, stop_event())
    leave()


def _begin(ctx: typer.Context, process: str) -> Settings:
    """What every process does first."""
    die_with_parent()
    forbid_core_dumps()
    settings: Settings = ctx.obj.settings()
    log.set_up(process, settings.log.level)
    return settings
