"""Rows of notifications, with the guarantees of the outbox.

::

    queued ──claim──▶ sending ──delivered──▶ delivered
      ▲                  │──unknown──▶ unknown ──claim──▶ sending   (no answer: the same message, by the same name, again)
      │                  │──failed, passing──▶ failed ──claim──▶ sending
    replay               └──failed, for good──▶ dead                (its alert escalates at once)

A correction withdraws what waits, as in the outbox; and so does a retraction of what nobody can have heard yet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, func, literal, select, update

from node.archive import ledger
from node.archive.pauses import Scope, job_is_paused
from node.archive.tables import alerts, jobs, notifications, pauses, studies
from node.archive.upsert import insert_missing
from node.errors import NotStored, UsageError
from node.notify.states import UNSETTLED, WAITING, AlertState, Event, NotificationState

AVAILABILITY_PREFIX = "availability:"
"""Begins the channel that tells of what a destination has; its name follows."""
SUPERSEDED = "superseded by a correction"
DISCARDED = "discarded by an operator after a pause"
RETRACTED = "retracted before anybody was told"
_CALLS = tuple(str(event) for event in (Event.ALERT, Event.UPDATE, Event.ESCALATION))
# What may differ from run to run without anything else to say.
_IMMATERIAL = frozenset({"run", "model_version", "text"})


@dataclass(frozen=True, slots=True)
class Notification:
    """A claimed notification.

    Attributes
    ----------
    control_id : str
        Its name on the wire, 20 characters; the same in each attempt.
    attempt : int
        Number of this attempt, from 1; already counted.
    content : dict
        See :func:`node.notify.alerts.content_of`.
    """

    id: int
    control_id: str
    alert_id: int | None
    job_id: int
    study_uid: str
    channel: str
    event: Event
    content: dict[str, Any]
    priority: int
    attempt: int
    created_at: float


def digest_of(content: Mapping[str, Any]) -> str:
    """Hex SHA-256 over what a reader would act on: the figures and whose they are."""
    result = {key: value for key, value in content.get("result", {}).items() if key not in _IMMATERIAL}
    return _digest({"result": result, "identity": content.get("identity", {})})


def identity_digest(content: Mapping[str, Any]) -> str:
    """Hex SHA-256 over whose the figures are."""
    return _digest(content.get("identity", {}))


def file(
    connection: Connection,
    now: float,
    *,
    key: str,
    alert_id: int | None,
    job_id: int,
    study_uid: str,
    channel: str,
    event: Event,
    content: Mapping[str, Any],
    priority: int,
) -> int | None:
    """File a notification; None where one with this key was filed before.

    Parameters
    ----------
    key : str
        Everything that makes it this notification and no other; also the source of its name on the wire.
    """
    named = hashlib.sha256(key.encode("utf-8")).hexdigest()
    added = insert_missing(
        connection,
        notifications,
        {
            "key": named,
            "control_id": named[:20].upper(),
            "alert_id": alert_id,
            "job_id": job_id,
            "study_uid": study_uid,
            "channel": channel,
            "event": str(event),
            "content": dict(content),
            "digest": digest_of(content),
            "state": str(NotificationState.QUEUED),
            "priority": int(priority),
            "attempts": 0,
            "not_before": now,
            "created_at": now,
            "outdated": False,
        },
        unique=["key"],
    )
    return None if added is None else int(added)


def claim(connection: Connection, now: float, channel: str) -> Notification | None:
    """Take the most urgent notification that is due for a channel, and count the attempt; None where there is none.

    What is said of one alert is said in its order: a retraction never overtakes what it takes back. Nothing of a held
    study leaves, nothing of a run of which an image was corrected since, and nothing of a run that is paused.
    """
    row = connection.execute(
        select(notifications)
        .where(_waits(channel), notifications.c.not_before <= now, ~_barred(), ~_overtakes())
        .order_by(notifications.c.priority, notifications.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=notifications)
    ).one_or_none()
    if row is None:
        return None
    set_values(connection, row.id, state=str(NotificationState.SENDING), attempts=row.attempts + 1, message=None)
    record(connection, now, ledger.Kind.NOTIFICATION_SENDING, row, attempt=row.attempts + 1)
    return Notification(
        id=row.id,
        control_id=row.control_id,
        alert_id=row.alert_id,
        job_id=row.job_id,
        study_uid=row.study_uid,
        channel=row.channel,
        event=Event(row.event),
        content=row.content,
        priority=row.priority,
        attempt=row.attempts + 1,
        created_at=row.created_at,
    )


class Verdict(StrEnum):
    """Whether a claimed notification may leave."""

    WANTED = "wanted"
    SUPERSEDED = "superseded"
    PAUSED = "paused"


def verdict(connection: Connection, notification: Notification) -> Verdict:
    """Whether a claimed notification may still be sent: ask right before sending."""
    run = select(jobs.c.id).where(jobs.c.id == notification.job_id)
    if connection.execute(run.where(jobs.c.superseded_at.is_not(None))).first() is not None:
        return Verdict.SUPERSEDED
    return Verdict.PAUSED if connection.execute(run.where(job_is_paused())).first() is not None else Verdict.WANTED


def give_back(connection: Connection, now: float, notification_id: int) -> None:
    """A claimed notification was not sent, because somebody paused it: it waits again, and no attempt is counted."""
    row = locked(connection, notification_id)
    values = {"state": str(NotificationState.QUEUED), "attempts": max(0, row.attempts - 1)}
    set_values(connection, row.id, not_before=now, **values)


def next_due(connection: Connection, channel: str) -> float | None:
    """When the next notification for a channel is due, in seconds since the epoch; None where none waits."""
    return connection.execute(
        select(func.min(notifications.c.not_before)).where(_waits(channel), ~_barred(), ~_overtakes())
    ).scalar_one_or_none()


def recover(connection: Connection, now: float, channel: str) -> int:
    """Mark what a dead process left in the air as unknown and due at once; return how many. Call it before claiming."""
    rows = _rows(connection, notifications.c.channel == channel, notifications.c.state == NotificationState.SENDING)
    for row in rows:
        words = "the process ended before the answer came"
        set_values(connection, row.id, state=str(NotificationState.UNKNOWN), message=words, not_before=now)
        record(connection, now, ledger.Kind.NOTIFICATION_UNKNOWN, row, message=words)
    return len(rows)


def delivered(connection: Connection, now: float, notification_id: int, receipt: str) -> None:
    """The channel has acknowledged; ``receipt`` is what it said."""
    row = locked(connection, notification_id)
    set_values(connection, row.id, state=str(NotificationState.DELIVERED), sent_at=now, message=receipt)
    record(connection, now, ledger.Kind.NOTIFICATION_DELIVERED, row, receipt=receipt)


def unknown(connection: Connection, now: float, notification_id: int, message: str, *, not_before: float) -> None:
    """No answer came: the channel may have heard or not, and is told again under the same name."""
    row = locked(connection, notification_id)
    set_values(connection, row.id, state=str(NotificationState.UNKNOWN), message=message, not_before=not_before)
    record(connection, now, ledger.Kind.NOTIFICATION_UNKNOWN, row, message=message)


def failed(
    connection: Connection,
    now: float,
    notification_id: int,
    *,
    message: str,
    transient: bool,
    not_before: float,
    maximum_attempts: int | None = None,
) -> NotificationState:
    """The attempt failed. Return the state the notification has then.

    Parameters
    ----------
    transient : bool
        Whether to try again at ``not_before``; else, or after ``maximum_attempts``, the notification is dead.
    """
    row = locked(connection, notification_id)
    used_up = maximum_attempts is not None and row.attempts >= maximum_attempts
    state = NotificationState.DEAD if used_up or not transient else NotificationState.FAILED
    set_values(connection, row.id, state=str(state), message=message, not_before=not_before)
    dead = state is NotificationState.DEAD
    kind = ledger.Kind.NOTIFICATION_DEAD if dead else ledger.Kind.NOTIFICATION_FAILED
    record(connection, now, kind, row, message=message, attempt=row.attempts)
    return state


def withdraw(connection: Connection, now: float, row: Row[Any], reason: str) -> None:
    """End a notification without sending it."""
    set_values(connection, row.id, state=str(NotificationState.WITHDRAWN), message=reason)
    record(connection, now, ledger.Kind.NOTIFICATION_WITHDRAWN, row, message=reason, before=row.state)


def discard(connection: Connection, now: float, of_runs: ColumnElement[bool]) -> int:
    """End what waits of runs, because an operator does not want it after a pause; return how many.

    Parameters
    ----------
    of_runs : ColumnElement
        Condition on jobs.
    """
    chosen = notifications.c.job_id.in_(select(jobs.c.id).where(of_runs))
    rows = _rows(connection, chosen, notifications.c.state.in_([str(state) for state in WAITING]))
    for row in rows:
        withdraw(connection, now, row, DISCARDED)
    return len(rows)


def has_moot(connection: Connection) -> bool:
    """Whether :func:`withdraw_moot` would find anything."""
    waiting = notifications.c.state.in_([str(state) for state in WAITING])
    heard = (notifications.c.state == NotificationState.DELIVERED) & notifications.c.outdated.is_(False)
    moot = ((waiting | heard) & _superseded()) | (waiting & notifications.c.event.in_(_CALLS) & _retracted())
    return connection.execute(select(notifications.c.id).where(moot).limit(1)).first() is not None


def withdraw_moot(connection: Connection, now: float) -> list[Row[Any]]:
    """End what waits and is not true any more: of runs that were superseded, and of alerts that were retracted.

    Returns
    -------
    list of Row
        What channels have, or may have, heard of superseded runs under an identity; each is returned once.
    """
    waiting = notifications.c.state.in_([str(state) for state in WAITING])
    told: list[Row[Any]] = []
    for row in _rows(connection, waiting, _superseded()):
        withdraw(connection, now, row, SUPERSEDED)
        told += [row] if row.state == NotificationState.UNKNOWN else []
    for row in _rows(connection, waiting, _retracted(), notifications.c.event.in_(_CALLS)):
        withdraw(connection, now, row, RETRACTED)
    heard = notifications.c.state == NotificationState.DELIVERED
    told += _rows(connection, _superseded(), heard, notifications.c.outdated.is_(False))
    for row in told:
        set_values(connection, row.id, outdated=True)
    return [row for row in told if row.content.get("identity")]


def replay(
    connection: Connection, now: float, *, notification_id: int | None = None, channel: str | None = None
) -> list[int]:
    """Queue notifications again, the same messages with all their attempts; return their numbers.

    Parameters
    ----------
    notification_id : int or None
        This one, whatever became of it, unless it is being sent.
    channel : str or None
        Every dead, failed or unknown notification of this channel.

    Raises
    ------
    NotStored
        There is no such notification.
    UsageError
        It is being sent, its run was superseded, it was withdrawn, or not exactly one of both parameters was given.
    """
    if (notification_id is None) == (channel is None):
        raise UsageError("name either a notification or a channel")
    if notification_id is not None:
        row = locked(connection, notification_id)
        if row.state in (NotificationState.SENDING, NotificationState.WITHDRAWN):
            raise UsageError(f"notification {notification_id} is {row.state}; it cannot be sent again")
        if row.outdated or _is_superseded(connection, row):
            raise UsageError(f"notification {notification_id} is about images that were corrected since")
        rows = [row]
    else:
        lost = [NotificationState.DEAD, NotificationState.FAILED, NotificationState.UNKNOWN]
        found = _rows(
            connection, notifications.c.channel == channel, notifications.c.state.in_([str(each) for each in lost])
        )
        rows = [row for row in found if not _is_superseded(connection, row)]
    for row in rows:
        set_values(connection, row.id, state=str(NotificationState.QUEUED), attempts=0, not_before=now, message=None)
        record(connection, now, ledger.Kind.NOTIFICATION_REPLAYED, row, before=row.state)
    return [int(row.id) for row in rows]


def list_notifications(
    connection: Connection,
    *,
    states: Collection[NotificationState] | None = None,
    channel: str | None = None,
    alert_id: int | None = None,
    limit: int = 100,
) -> list[Row[Any]]:
    """Notifications, the latest first."""
    statement = select(notifications).order_by(notifications.c.id.desc()).limit(limit)
    if states is not None:
        statement = statement.where(notifications.c.state.in_([str(state) for state in states]))
    if channel is not None:
        statement = statement.where(notifications.c.channel == channel)
    if alert_id is not None:
        statement = statement.where(notifications.c.alert_id == alert_id)
    return list(connection.execute(statement))


def of_alert(connection: Connection, alert_id: int) -> list[Row[Any]]:
    """Every notification of an alert in the order filed, locked where the database locks rows."""
    return _rows(connection, notifications.c.alert_id == alert_id)


def count_by_state(connection: Connection) -> dict[str, int]:
    """How many notifications are in each state."""
    rows = connection.execute(
        select(notifications.c.state, func.count()).group_by(notifications.c.state).order_by(notifications.c.state)
    )
    return {str(state): int(count) for state, count in rows}


def locked(connection: Connection, notification_id: int) -> Row[Any]:
    """One notification; raises NotStored."""
    rows = _rows(connection, notifications.c.id == notification_id)
    if not rows:
        raise NotStored(f"there is no notification {notification_id}")
    return rows[0]


def set_values(connection: Connection, notification_id: int, **values: Any) -> None:
    """Change columns of a notification."""
    connection.execute(update(notifications).where(notifications.c.id == notification_id).values(**values))


def record(connection: Connection, now: float, kind: ledger.Kind, row: Row[Any], **detail: Any) -> None:
    """Write a ledger row about a notification."""
    ledger.record(
        connection,
        now,
        kind,
        study_uid=row.study_uid,
        job_id=row.job_id,
        notification=row.id,
        alert=row.alert_id,
        channel=row.channel,
        event=row.event,
        control_id=row.control_id,
        **detail,
    )


def _rows(connection: Connection, *conditions: ColumnElement[bool]) -> list[Row[Any]]:
    statement = select(notifications).where(*conditions).order_by(notifications.c.id)
    return list(connection.execute(statement.with_for_update(of=notifications)))


def _waits(channel: str) -> ColumnElement[bool]:
    return (notifications.c.channel == channel) & notifications.c.state.in_([str(state) for state in WAITING])


def _barred() -> ColumnElement[bool]:
    held = exists().where(studies.c.study_uid == notifications.c.study_uid, studies.c.held_reason.is_not(None))
    run = exists().where(jobs.c.id == notifications.c.job_id, job_is_paused()).correlate(notifications)
    of_destination = literal(AVAILABILITY_PREFIX).concat(pauses.c.name) == notifications.c.channel
    destination = exists().where(pauses.c.scope == str(Scope.DESTINATION), of_destination).correlate(notifications)
    return held | run | destination | _superseded()


def _superseded() -> ColumnElement[bool]:
    return exists().where(jobs.c.id == notifications.c.job_id, jobs.c.superseded_at.is_not(None))


def _retracted() -> ColumnElement[bool]:
    return exists().where(alerts.c.id == notifications.c.alert_id, alerts.c.state == AlertState.RETRACTED)


def _overtakes() -> ColumnElement[bool]:
    earlier = notifications.alias("earlier")
    return exists().where(
        earlier.c.alert_id == notifications.c.alert_id,
        earlier.c.channel == notifications.c.channel,
        earlier.c.id < notifications.c.id,
        earlier.c.state.in_([str(state) for state in UNSETTLED]),
    )


def _is_superseded(connection: Connection, row: Row[Any]) -> bool:
    statement = select(jobs.c.id).where(jobs.c.id == row.job_id, jobs.c.superseded_at.is_not(None))
    return connection.execute(statement).first() is not None


def _digest(value: Mapping[str, Any]) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest()
