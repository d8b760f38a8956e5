"""``ainode notifications``."""

from __future__ import annotations

import getpass
import time
from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened, show

app = new_app("Who was told what: list, acknowledge, send again, explain.")

JsonFlag = Annotated[bool, typer.Option("--json", help="Stable JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many, the latest first.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    as_json: JsonFlag = False,
    state: Annotated[list[str] | None, typer.Option("--state", help="Only this state; may be repeated.")] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Only to this channel.")] = None,
    alert: Annotated[int | None, typer.Option("--alert", help="Only of this alert.")] = None,
    limit: Limit = 50,
) -> None:
    """List notifications, the latest first."""
    from node.commands.choices import chosen
    from node.notify import notification_rows
    from node.notify.states import NotificationState

    states = chosen(NotificationState, state, "--state")
    with opened(ctx.obj.settings()) as store, store.read() as connection:
        found = notification_rows.list_notifications(
            connection, states=states, channel=channel, alert_id=alert, limit=limit
        )
    keys = ("state", "channel", "event", "alert_id", "job_id", "attempts", "message", "created_at", "sent_at")
    rows = [
        {
            "notification": row.id,
            **{key.removesuffix("_id"): getattr(row, key) for key in keys},
            "control_id": row.control_id,
            "outdated": row.outdated,
            "study_uid": row.study_uid,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="no notifications")


@app.command()
def alerts(
    ctx: typer.Context,
    as_json: JsonFlag = False,
    state: Annotated[list[str] | None, typer.Option("--state", help="Only this state; may be repeated.")] = None,
    limit: Limit = 50,
) -> None:
    """List alerts: what somebody is told about, and who has taken it over."""
    from node.commands.choices import chosen
    from node.notify import alerts as rows_of_alerts
    from node.notify.states import AlertState

    states = chosen(AlertState, state, "--state")
    with opened(ctx.obj.settings()) as store, store.read() as connection:
        found = rows_of_alerts.list_alerts(connection, states=states, limit=limit)
    keys = ("state", "notify", "rule", "level", "opened_at", "acknowledged_at", "acknowledged_by", "escalate_at")
    rows = [
        {"alert": row.id, **{key: getattr(row, key) for key in keys}, "job": row.job_id, "study_uid": row.study_uid}
        for row in found
    ]
    show(rows, as_json=as_json, empty="no alerts")


@app.command()
def ack(
    ctx: typer.Context,
    alert: Annotated[str, typer.Argument(help="Number of an alert, or the token of a notification.")],
    by: Annotated[str, typer.Option("--by", help="Who takes it over. Left out: whoever is signed on.")] = "",
) -> None:
    """Acknowledge an alert: nobody else is called."""
    from node.errors import UsageError
    from node.notify import alerts as rows_of_alerts
    from node.notify.acknowledgement import Acknowledgement

    settings = ctx.obj.settings()
    number = (
        int(alert) if alert.isascii() and alert.isdigit() else Acknowledgement(settings.data_dir, "").alert_of(alert)
    )
    with opened(settings) as store, store.write() as connection:
        done = rows_of_alerts.acknowledge(connection, time.time(), number, by=by or getpass.getuser())
        row = rows_of_alerts.get(connection, number)
    if not done:
        raise UsageError(f"alert {number} is {row.state if row else 'unknown'}; there is nothing to acknowledge")
    typer.echo(f"alert {number} is acknowledged")


@app.command()
def replay(
    ctx: typer.Context,
    notification: Annotated[int | None, typer.Argument(help="Number of the notification.")] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="Every dead, failed or unknown notification of this channel.")
    ] = None,
) -> None:
    """Send again: the same messages, under the same names."""
    from node import doorbell
    from node.notify import notification_rows
    from node.status import run_folder

    settings = ctx.obj.settings()
    with opened(settings) as store, store.write() as connection:
        queued = notification_rows.replay(connection, time.time(), notification_id=notification, channel=channel)
    doorbell.ring(run_folder(settings.data_dir), doorbell.NOTIFIER)
    typer.echo(f"{len(queued)} notifications are queued again")


@app.command()
def explain(
    ctx: typer.Context,
    job: Annotated[int, typer.Argument(help="Number of a run that has ended.")],
    as_json: JsonFlag = False,
) -> None:
    """Hold the rules of who is told, as they are configured now, against a run; files and sends nothing."""
    import json

    from node.errors import NotStored
    from node.jobs import queue
    from node.notify.conditions import judge
    from node.notify.facts import facts_of_failure, facts_of_result

    settings = ctx.obj.settings()
    with opened(settings) as store, store.read() as connection:
        row = queue.get(connection, job)
    if row is None or row.result is None:
        raise NotStored(f"there is no job {job} that has ended")
    common = {"rule": row.rule, "model": row.model_id, "run": row.run, "priority": row.priority}
    if row.result.get("outcome"):
        facts = facts_of_result(**common, outcome=row.result["outcome"], summary=row.result)
    else:
        facts = facts_of_failure(**common, code=row.error_code or "", message=row.message or "")
    verdicts = judge(settings.notify, facts)
    if as_json:
        lines = [
            {"notify": each.notify.name, "matched": each.matched, "explanation": each.explanation} for each in verdicts
        ]
        typer.echo(json.dumps(lines, indent=2, ensure_ascii=False))
        return
    for each in verdicts:
        told = ", ".join([*each.notify.channels, *each.notify.destinations])
        typer.echo(f"{each.notify.name}: {'HOLDS, tells ' + told if each.matched else 'does not hold'}")
        for sentence in each.explanation:
            typer.echo(f"  {sentence}")
    if not verdicts:
        typer.echo("no [[notify]] rules: nobody would be told")
