"""``ainode run PROCESS``: one process of the node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import Annotated, NamedTuple

import typer

from node import log
from node.cli import new_app
from node.liveness import Liveness
from node.process import (
    PARENT_VARIABLE,
    collector_at_rest,
    die_with_parent,
    forbid_core_dumps,
    leave,
    spare_the_collector,
    stop_event,
)
from node.pulse import Pulse
from node.settings import Settings

app = new_app("Run one process of the node.")


class Process(NamedTuple):
    """What every process has."""

    settings: Settings
    stop: Event
    liveness: Liveness


@app.command()
def receiver(ctx: typer.Context) -> None:
    """Answer C-ECHO and C-STORE; take commitment reports. Uses an inherited socket (LISTEN_FDS) where there is one."""
    with _process(ctx, "receiver") as (settings, stop, liveness):
        with collector_at_rest():
            from node.dicom.storage_scp import run_receiver
            from node.listening import listening

        spare_the_collector()
        with listening(settings) as listeners:
            run_receiver(settings, stop, listeners, liveness)
    leave()


@app.command()
def scheduler(ctx: typer.Context) -> None:
    """Decide when studies are complete, match rules, sweep leases, seal the ledger."""
    with _process(ctx, "scheduler") as (settings, stop, liveness):
        with collector_at_rest():
            from node.schedule import run_scheduler

        run_scheduler(settings, stop, liveness)
    leave()


@app.command()
def dispatcher(
    ctx: typer.Context,
    stat_only: Annotated[bool, typer.Option("--stat-only", help="Take STAT runs only.")] = False,
) -> None:
    """Lease jobs and run them in a model-host child."""
    with _process(ctx, "dispatcher-stat" if stat_only else "dispatcher") as (settings, stop, liveness):
        with collector_at_rest():
            from node.jobs.dispatcher import run_dispatcher

        run_dispatcher(settings, stop, stat_only=stat_only, liveness=liveness)
    leave()


@app.command()
def sender(ctx: typer.Context) -> None:
    """Send what waits in the outbox, and ask for proof."""
    with _process(ctx, "sender") as (settings, stop, liveness):
        with collector_at_rest():
            from node.delivery.sender import run_sender

        run_sender(settings, stop, liveness)
    leave()


@app.command()
def notifier(ctx: typer.Context) -> None:
    """Tell people and systems about results, and escalate."""
    with _process(ctx, "notifier") as (settings, stop, liveness):
        with collector_at_rest():
            from node.notify.notifier import run_notifier

        run_notifier(settings, stop, liveness)
    leave()


@app.command()
def hl7(ctx: typer.Context) -> None:
    """Take HL7 v2 messages over MLLP."""
    with _process(ctx, "hl7") as (settings, stop, liveness):
        with collector_at_rest():
            from node.hl7.listener import run_hl7

        run_hl7(settings, stop, liveness)
    leave()


@app.command()
def web(ctx: typer.Context) -> None:
    """Serve the console."""
    with _process(ctx, "web") as (settings, stop, liveness):
        with collector_at_rest():
            from node.web.server import run_web

        run_web(settings, stop, liveness)
    leave()


@app.command()
def monitor(ctx: typer.Context) -> None:
    """Watch the node: processes, disk, certificates, canary; raise alarms, send audit messages."""
    with _process(ctx, "monitor") as (settings, stop, liveness):
        with collector_at_rest():
            from node.monitor.process import run_monitor

        run_monitor(settings, stop, liveness)
    leave()


@contextmanager
def _process(ctx: typer.Context, name: str) -> Iterator[Process]:
    """What every process does first and last."""
    die_with_parent()
    forbid_core_dumps()
    liveness = Liveness.of_environment()
    settings: Settings = ctx.obj.settings()
    log.set_up(name, settings.log.level)
    with ExitStack() as stack:
        if PARENT_VARIABLE not in os.environ:
            _stand_alone(settings, name, stack)
        yield Process(settings, stop_event(), liveness.with_pulse(Pulse(settings.data_dir, name)))


def _stand_alone(settings: Settings, name: str, stack: ExitStack) -> None:
    """Do what the supervisor would do: keep the data folder, be counted; the scheduler answers `ainode status`."""
    from node.folder_lock import one_process, only_supervisor
    from node.presence import present, processes
    from node.report import NodeReport
    from node.status import StatusServer

    stack.enter_context(one_process(settings.data_dir))
    stack.enter_context(present(settings.data_dir, name))
    if name == "scheduler":
        stack.enter_context(only_supervisor(settings.data_dir))
        status = StatusServer(settings.data_dir, NodeReport(settings, lambda: processes(settings.data_dir)))
        status.start()
        stack.callback(status.stop)
