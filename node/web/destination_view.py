"""Destinations: what they are, whether they are called, what they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from sqlalchemy import Connection

from node.archive import pauses
from node.archive.pauses import Scope
from node.delivery import capabilities
from node.delivery.gate_states import published
from node.settings import Settings
from node.status import published as summary


@dataclass(frozen=True, slots=True)
class Capability:
    """One kind of object a destination was asked about."""

    sop_class_uid: str
    name: str
    transfer_syntaxes: tuple[str, ...]
    accepted: bool


@dataclass(frozen=True, slots=True)
class DestinationView:
    """One destination.

    Attributes
    ----------
    breaker : str
        ``closed``, ``open``, ``downtime``; ``unknown`` while no sender has said so.
    counts : mapping
        Deliveries by state, as the scheduler counted last.
    asked_at : float or None
        When it was asked what it takes (`ainode verify-peer`).
    """

    name: str
    address: str
    kind: str
    profile: str
    breaker: str
    breaker_until: float | None
    paused: str
    counts: Mapping[str, int]
    asked_at: float | None
    charset: str
    takes: tuple[Capability, ...]


def destination_views(connection: Connection, settings: Settings) -> list[DestinationView]:
    """Every destination of the configuration, by name."""
    gates, counted = published(settings.data_dir), summary(settings.data_dir).get("destinations", {})
    stopped = {row.name: row for row in pauses.active(connection) if row.scope == Scope.DESTINATION}
    found = []
    for name, section in sorted(settings.destination.items()):
        gate, known = gates.get(name), capabilities.of(connection, name)
        pause = stopped.get(name)
        found.append(
            DestinationView(
                name,
                section.url or section.address,
                "DICOMweb" if section.url else "DICOM",
                section.profile,
                gate.state if gate else "unknown",
                gate.until if gate else None,
                f"{pause.by}: {pause.reason}" if pause is not None else "",
                counted.get(name, {}),
                known.asked_at or None,
                known.charset or "",
                _takes(known),
            )
        )
    return found


def _takes(known: capabilities.Capabilities) -> tuple[Capability, ...]:
    refused = {each.split(" ")[0] for each in known.refused}
    classes: dict[str, Any] = {**dict.fromkeys(sorted(refused), ()), **known.storage}
    return tuple(
        sorted(
            (
                Capability(uid, UID(uid).name, tuple(UID(each).name for each in syntaxes), known.takes(uid))
                for uid, syntaxes in classes.items()
            ),
            key=lambda each: (not each.accepted, each.name),
        )
    )
