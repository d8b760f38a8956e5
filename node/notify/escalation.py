"""The escalation chain: who is called next where nobody has acknowledged, or where nobody could be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from node.archive import ledger
from node.archive.pauses import job_is_paused
from node.archive.tables import alerts, jobs
from node.notify import notification_rows
from node.notify.alerts import get, record, set_values, tell
from node.notify.states import AlertState, Event
from node.settings import NotifySection, Settings


@dataclass(frozen=True, slots=True)
class Escalated:
    """A step taken. ``channels`` is empty where the chain had ended: nobody else is left to tell."""

    alert_id: int
    notify: str
    level: int
    channels: tuple[str, ...]


def is_due(connection: Connection, now: float) -> bool:
    """Whether :func:`escalate_due` may find anything."""
    due = select(alerts.c.id).where(alerts.c.state == AlertState.OPEN, alerts.c.escalate_at <= now)
    return connection.execute(due.limit(1)).first() is not None


def escalate_due(connection: Connection, now: float, settings: Settings) -> list[Escalated]:
    """Take the next step of every open alert whose time has come.

    An alert of a run that was superseded waits for the run that follows: its figures may be somebody else's. One of a run
    that is paused waits for its resumption.
    """
    rules = {notify.name: notify for notify in settings.notify}
    barred = exists().where(jobs.c.id == alerts.c.job_id, jobs.c.superseded_at.is_not(None) | job_is_paused())
    due = connection.execute(
        select(alerts)
        .where(alerts.c.state == AlertState.OPEN, alerts.c.escalate_at <= now, ~barred)
        .order_by(alerts.c.escalate_at)
        .with_for_update(skip_locked=True, of=alerts)
    ).all()
    return [_step(connection, now, alert, rules.get(alert.notify), settings) for alert in due]


def unheard(connection: Connection, now: float, alert_id: int) -> None:
    """A notification of an alert is dead: the next step is due at once."""
    alert = get(connection, alert_id)
    if alert is not None and alert.state == AlertState.OPEN:
        set_values(connection, alert.id, escalate_at=now)


def _step(
    connection: Connection, now: float, alert: Row[Any], notify: NotifySection | None, settings: Settings
) -> Escalated:
    chain = notify.escalate if notify is not None else []
    if alert.level >= len(chain):
        set_values(connection, alert.id, escalate_at=None)
        record(connection, now, ledger.Kind.ALERT_UNHEARD, alert, level=alert.level)
        return Escalated(alert.id, alert.notify, alert.level, ())
    step, following = chain[alert.level], chain[alert.level + 1 : alert.level + 2]
    level = alert.level + 1
    # After the last step its own time runs once more, so that silence at the end of the chain is noticed.
    pause = following[0].after_seconds if following else step.after_seconds
    set_values(connection, alert.id, level=level, escalate_at=now + pause)
    raised = get(connection, alert.id)
    assert raised is not None  # locked by this transaction
    record(connection, now, ledger.Kind.ALERT_ESCALATED, raised, level=level, channels=list(step.channels))
    tell(connection, now, raised, Event.ESCALATION, step.channels, settings, priority=_priority(connection, alert))
    return Escalated(alert.id, alert.notify, level, tuple(step.channels))


def _priority(connection: Connection, alert: Row[Any]) -> int:
    filed = notification_rows.list_notifications(connection, alert_id=alert.id, limit=1)
    return int(filed[0].priority) if filed else 0
