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


class Proven(StrEnum):
    """What is known, beside the answer to C-STORE, of whether a destination has an object."""

    COMMITMENT = "commitment"
    """It has taken responsibility (PS3.4 annex J); the state is ``committed``."""
    QUERY = "query"
    """It lists the object at instance level (C-FIND or QIDO-RS); the state stays ``stored``."""
    UNVERIFIABLE = "unverifiable"
    """It offers neither, or answers neither: ``stored``, and nothing proves it."""


class Outdated(StrEnum):
    """Whether somebody has dealt with an old identity at a destination."""

    OPEN = "open"
    SETTLED = "settled"


WAITING = (DeliveryState.QUEUED, DeliveryState.UNKNOWN, DeliveryState.FAILED)
"""States from which a delivery is sent when its time has come."""

SENT = (DeliveryState.STORED, DeliveryState.COMMITTED)
"""States in which the destination has said that it has the object."""

PROVEN = (Proven.COMMITMENT, Proven.QUERY)
"""Proofs after which a local copy may go."""
