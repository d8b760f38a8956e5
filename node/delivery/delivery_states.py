"""States of deliveries."""

from __future__ import annotations

from enum import StrEnum


class DeliveryState(StrEnum):
    """State of one object at one destination."""

    QUEUED = "queued"
    SENDING = "sending"
    STORED = "stored"
    COMMITTED = "committed"
    UNKNOWN = "unknown"
    FAILED = "failed"
    DEAD = "dead"
    WITHDRAWN = "withdrawn"


class Outdated(StrEnum):
    """Whether somebody has dealt with an old identity at a destination."""

    OPEN = "open"
    SETTLED = "settled"


WAITING = (DeliveryState.QUEUED, DeliveryState.UNKNOWN, DeliveryState.FAILED)
"""States from which a delivery is sent when its time has come."""

SENT = (DeliveryState.STORED, DeliveryState.COMMITTED)
"""States in which the destination has said that it has the object."""
