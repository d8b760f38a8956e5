"""States of alerts and notifications, and what a notification is about."""

from __future__ import annotations

from enum import StrEnum


class AlertState(StrEnum):
    """State of what somebody is told about: one for each study, routing rule and notify rule."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RETRACTED = "retracted"


class NotificationState(StrEnum):
    """State of one message to one channel."""

    QUEUED = "queued"
    SENDING = "sending"
    DELIVERED = "delivered"
    UNKNOWN = "unknown"
    FAILED = "failed"
    DEAD = "dead"
    WITHDRAWN = "withdrawn"


class Event(StrEnum):
    """What a notification says.

    ``ALERT`` a rule holds; ``UPDATE`` it still holds, with other figures or under another identity; ``RETRACTION`` it
    holds no more; ``ESCALATION`` nobody has acknowledged; ``AVAILABILITY`` results can be retrieved.
    """

    ALERT = "alert"
    UPDATE = "update"
    RETRACTION = "retraction"
    ESCALATION = "escalation"
    AVAILABILITY = "availability"


WAITING = (NotificationState.QUEUED, NotificationState.UNKNOWN, NotificationState.FAILED)
"""States from which a notification is sent when its time has come."""

UNSETTLED = (*WAITING, NotificationState.SENDING)
"""States after which another notification about the same alert must wait."""

PERHAPS_TOLD = (NotificationState.DELIVERED, NotificationState.SENDING, NotificationState.UNKNOWN)
"""States in which the channel has, or may have, heard."""
