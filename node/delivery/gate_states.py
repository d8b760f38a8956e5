"""What the sender knows of each destination's gate, left in the run folder for those who show it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from node.delivery.gate import Gate
from node.status import run_folder

_NAME = "gates.json"


@dataclass(frozen=True, slots=True)
class GateState:
    """State of one destination's gate.

    Attributes
    ----------
    state : str
        ``closed`` (of a circuit: deliveries leave), ``open`` (nothing is tried after failures) or ``downtime``.
    until : float or None
        When it is tried again, seconds since the epoch.
    at : float
        When the sender said so.
    """

    state: str
    until: float | None
    at: float


def state_of(gate: Gate, now: float) -> GateState:
    """What a gate is like now."""
    shut = gate.closed(now)
    if shut is None:
        return GateState("closed", None, now)
    return GateState("downtime" if shut.planned else "open", now + shut.seconds, now)


def publish(data_dir: Path, states: dict[str, GateState]) -> None:
    """Leave the states; a reader sees the old or the new ones."""
    path = run_folder(data_dir) / _NAME
    part = path.with_suffix(".part")
    part.write_text(json.dumps({name: asdict(state) for name, state in states.items()}), encoding="utf-8")
    part.replace(path)


def published(data_dir: Path) -> dict[str, GateState]:
    """States as they were left last; empty where there are none."""
    try:
        content = json.loads((run_folder(data_dir) / _NAME).read_text(encoding="utf-8"))
        return {name: GateState(**state) for name, state in content.items()}
    except (OSError, ValueError, TypeError):
        return {}
