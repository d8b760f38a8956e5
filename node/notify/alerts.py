"""Alerts: one for each finding, however many runs say it, and what every channel is told about it.

All of it happens in the transaction that ends the job: a result is never frozen without those being filed who are to
be told, and nobody is told of a result that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from models.results import Outcome
from node.archive import ledger
from node.archive.tables import alerts
from node.archive.upsert import insert_missing
from node.errors import NotStored
from node.notify import notification_rows
from node.notify.conditions import NotifyVerdict, concerns, judge
from node.notify.facts import ResultFacts
from node.notify.identity import identity_of
from node.notify.states import PERHAPS_TOLD, WAITING, AlertState, Event, NotificationState
from node.settings import NotifySection, Settings

_PRIORITIES = ("stat", "urgent", "routine", "off-peak")


@dataclass(frozen=True, slots=True)
class Announced:
    """What rules make of a result.

    Attributes
    ----------
    notifications : int
        Filed now.
    priority : int
        Of the result's deliveries: the run's, or a more urgent one that a rule asks for.
    destinations : dict
        Profile → names of further destinations.
    """

    notifications: int
    priority: int
    destinations: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Run:
    """The ended run, as all the following needs it."""

    job_id: int
    study_uid: str
    facts: ResultFacts
    priority: int


def announce(
    connection: Connection,
    now: float,
    *,
    job_id: int,
    study_uid: str,
    priority: int,
    facts: ResultFacts,
    further: Mapping[str, Mapping[str, Sequence[str]]],
    settings: Settings,
) -> Announced:
    """Hold the rules against a result and file who is to be told, in the transaction that ends the job.

    Parameters
    ----------
    further : mapping
        Name of a notify rule → profile → names of further destinations, as planned for the job.
    """
    count, urgent = 0, int(priority)
    destinations: dict[str, list[str]] = {}
    if facts.outcome not in set(Outcome):
        # A job that looks at nothing, as one that writes a note about earlier objects, says nothing about the patient.
        return Announced(count, urgent, destinations)
    for verdict in judge(settings.notify, facts):
        if not concerns(verdict.notify, facts.rule):
            continue
        if verdict.matched:
            if verdict.notify.priority is not None:
                urgent = min(urgent, _PRIORITIES.index(verdict.notify.priority))
            for profile, names in further.get(verdict.notify.name, {}).items():
                known = destinations.setdefault(profile, [])
                known += [name for name in names if name not in known]
        own = min(int(priority), _urgency(verdict.notify, priority))
        count += _consequences(connection, now, _Run(job_id, study_uid, facts, own), verdict, settings)
    return Announced(count, urgent, destinations)


def get(connection: Connection, alert_id: int) -> Row[Any] | None:
    """Row of an alert."""
    return connection.execute(select(alerts).where(alerts.c.id == alert_id)).one_or_none()


def list_alerts(
    connection: Connection, *, states: Sequence[AlertState] | None = None, limit: int = 100
) -> list[Row[Any]]:
    """Alerts, the latest first."""
    statement = select(alerts).order_by(alerts.c.id.desc()).limit(limit)
    if states is not None:
        statement = statement.where(alerts.c.state.in_([str(state) for state in states]))
    return list(connection.execute(statement))


def count_by_state(connection: Connection) -> dict[str, int]:
    """How many alerts are in each state."""
    rows = connection.execute(select(alerts.c.state, func.count()).group_by(alerts.c.state).order_by(alerts.c.state))
    return {str(state): int(count) for state, count in rows}


def acknowledge(connection: Connection, now: float, alert_id: int, *, by: str) -> bool:
    """Note that somebody has taken an alert over: nobody else is called. False where it was not open.

    Raises
    ------
    NotStored
        There is no such alert.
    """
    row = _locked(connection, alerts.c.id == alert_id)
    if row is None:
        raise NotStored(f"there is no alert {alert_id}")
    if row.state != AlertState.OPEN:
        return False
    set_values(
        connection,
        row.id,
        state=str(AlertState.ACKNOWLEDGED),
        acknowledged_at=now,
        acknowledged_by=by[:128],
        escalate_at=None,
    )
    record(connection, now, ledger.Kind.ALERT_ACKNOWLEDGED, row, after_seconds=round(now - row.opened_at, 1))
    for waiting in notification_rows.of_alert(connection, row.id):
        if waiting.event == Event.ESCALATION and waiting.state in WAITING:
            notification_rows.withdraw(connection, now, waiting, "acknowledged before anybody else was told")
    return True


def tell(
    connection: Connection,
    now: float,
    alert: Row[Any],
    event: Event,
    channels: Sequence[str],
    settings: Settings,
    *,
    priority: int,
) -> int:
    """File a notification of an alert for each channel, with the identity it may have; return how many.

    Parameters
    ----------
    alert : Row
        As it is now.
    """
    count = 0
    for name in channels:
        content = content_of(connection, now, alert, event, name, settings, priority=priority)
        key = f"{settings.node.name}:{alert.id}:{alert.opened_at}:{event}:{alert.job_id}:{alert.level}:{name}"
        filed = notification_rows.file(
            connection,
            now,
            key=key,
            alert_id=alert.id,
            job_id=alert.job_id,
            study_uid=alert.study_uid,
            channel=name,
            event=event,
            content=content,
            priority=priority,
        )
        count += filed is not None
    return count


def content_of(
    connection: Connection,
    now: float,
    alert: Row[Any],
    event: Event,
    channel: str,
    settings: Settings,
    *,
    priority: int,
) -> dict[str, Any]:
    """What a channel is told.

    Returns
    -------
    dict
        ``alert``, ``event``, ``notify``, ``at`` and ``opened_at`` (seconds since the epoch), ``node``, ``job``, ``level``,
        ``priority``, ``result`` (:class:`ResultFacts`; no ``text`` without identity) and ``identity`` (see :func:`identity_of`).
    """
    level = settings.channel[channel].identity
    # Free text stays with those who may know whose study it is: nobody can swear what a model writes.
    result = {key: value for key, value in alert.facts.items() if key != "text" or level != "none"}
    return {
        "alert": alert.id,
        "event": str(event),
        "notify": alert.notify,
        "at": now,
        "opened_at": alert.opened_at,
        "node": settings.node.name,
        "job": alert.job_id,
        "level": alert.level,
        "priority": _PRIORITIES[priority],
        "result": result,
        "identity": identity_of(connection, alert.study_uid, level),
    }


def set_values(connection: Connection, alert_id: int, **values: Any) -> None:
    """Change columns of an alert."""
    connection.execute(update(alerts).where(alerts.c.id == alert_id).values(**values))


def record(connection: Connection, now: float, kind: ledger.Kind, row: Row[Any], **detail: Any) -> None:
    """Write a ledger row about an alert."""
    facts = {"alert": row.id, "notify": row.notify, **detail}
    ledger.record(connection, now, kind, study_uid=row.study_uid, job_id=row.job_id, **facts)


def _urgency(notify: NotifySection, priority: int) -> int:
    return int(priority) if notify.priority is None else _PRIORITIES.index(notify.priority)


def _consequences(connection: Connection, now: float, run: _Run, verdict: NotifyVerdict, settings: Settings) -> int:
    """File what follows from one verdict; return how many notifications."""
    notify = verdict.notify
    before = _locked(
        connection,
        alerts.c.study_uid == run.study_uid,
        alerts.c.rule == run.facts.rule,
        alerts.c.notify == notify.name,
    )
    standing = before is not None and before.state != AlertState.RETRACTED
    if not verdict.matched:
        ledger.record(
            connection,
            now,
            ledger.Kind.NOTIFY_SKIPPED,
            study_uid=run.study_uid,
            job_id=run.job_id,
            notify=notify.name,
            explanation=list(verdict.explanation),
        )
        # A run that could not look says nothing against what an earlier one saw.
        return _retract(connection, now, before, run, settings) if standing and run.facts.assessed else 0
    if before is None or not standing:
        return _open(connection, now, before, run, verdict, settings)
    return _update(connection, now, before, run, notify, settings)


def _open(
    connection: Connection,
    now: float,
    before: Row[Any] | None,
    run: _Run,
    verdict: NotifyVerdict,
    settings: Settings,
) -> int:
    notify = verdict.notify
    first = notify.escalate[0].after_seconds if notify.escalate else None
    values = {
        "state": str(AlertState.OPEN),
        "job_id": run.job_id,
        "facts": run.facts.model_dump(mode="json"),
        "level": 0,
        "escalate_at": None if first is None else now + first,
        "opened_at": now,
        "acknowledged_at": None,
        "acknowledged_by": None,
    }
    if before is None:
        named = {"study_uid": run.study_uid, "rule": run.facts.rule, "notify": notify.name}
        if insert_missing(connection, alerts, {**named, **values}, unique=list(named)) is None:
            # Another run of the study ended in this moment, and opened it.
            return _update(connection, now, _current(connection, run, notify.name), run, notify, settings)
    else:
        set_values(connection, before.id, **values)
    alert = _current(connection, run, notify.name)
    record(connection, now, ledger.Kind.ALERT_OPENED, alert, explanation=list(verdict.explanation))
    return tell(connection, now, alert, Event.ALERT, notify.channels, settings, priority=run.priority)


def _update(
    connection: Connection, now: float, before: Row[Any], run: _Run, notify: NotifySection, settings: Settings
) -> int:
    """The same finding again: nobody is called twice; systems that keep figures get the new ones, where they differ."""
    notification_rows.withdraw_moot(connection, now)
    set_values(connection, before.id, job_id=run.job_id, facts=run.facts.model_dump(mode="json"))
    alert = _current(connection, run, before.notify)
    latest = _latest_by_channel(notification_rows.of_alert(connection, alert.id))
    missed, told = [], []
    for name, row in latest.items():
        if name not in settings.channel:
            continue
        content = content_of(connection, now, alert, Event.UPDATE, name, settings, priority=run.priority)
        if row.state == NotificationState.WITHDRAWN and row.message == notification_rows.SUPERSEDED:
            missed.append(name)
        elif settings.channel[name].updates and notification_rows.digest_of(content) != row.digest:
            told.append(name)
    if missed and before.state == AlertState.OPEN and notify.escalate and before.level == 0:
        set_values(connection, alert.id, escalate_at=now + notify.escalate[0].after_seconds)
    if told or missed:
        record(connection, now, ledger.Kind.ALERT_UPDATED, alert, channels=[*told, *missed])
    count = tell(connection, now, alert, Event.UPDATE, told, settings, priority=run.priority)
    # Whom a correction has kept from hearing of it hears now.
    return count + tell(connection, now, alert, Event.ALERT, missed, settings, priority=run.priority)


def _retract(connection: Connection, now: float, before: Row[Any] | None, run: _Run, settings: Settings) -> int:
    """The finding is no more: who has heard is told, who has not heard yet never is."""
    assert before is not None  # an alert that stands
    earlier = notification_rows.of_alert(connection, before.id)
    for row in earlier:
        if row.state in WAITING:
            notification_rows.withdraw(connection, now, row, notification_rows.RETRACTED)
    heard = _latest_by_channel([row for row in earlier if row.state in PERHAPS_TOLD])
    set_values(
        connection,
        before.id,
        state=str(AlertState.RETRACTED),
        job_id=run.job_id,
        facts=run.facts.model_dump(mode="json"),
        escalate_at=None,
    )
    alert = _current(connection, run, before.notify)
    told = []
    for name, latest in heard.items():
        if name not in settings.channel:
            continue
        content = content_of(connection, now, alert, Event.RETRACTION, name, settings, priority=run.priority)
        # An old identity never leaves again, not even to take something back.
        if notification_rows.identity_digest(content) == notification_rows.identity_digest(latest.content):
            told.append(name)
    unsaid = sorted(set(heard) - set(told))
    record(connection, now, ledger.Kind.ALERT_RETRACTED, alert, channels=told, another_identity=unsaid)
    return tell(connection, now, alert, Event.RETRACTION, told, settings, priority=run.priority)


def _latest_by_channel(rows: Sequence[Row[Any]]) -> dict[str, Row[Any]]:
    return {row.channel: row for row in rows}


def _current(connection: Connection, run: _Run, notify: str) -> Row[Any]:
    row = _locked(
        connection, alerts.c.study_uid == run.study_uid, alerts.c.rule == run.facts.rule, alerts.c.notify == notify
    )
    assert row is not None  # written a moment ago in this transaction
    return row


def _locked(connection: Connection, *conditions: Any) -> Row[Any] | None:
    return connection.execute(select(alerts).where(*conditions).with_for_update()).one_or_none()
