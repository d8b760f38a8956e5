"""Rules: what stands in the file, and what it would have done with what has arrived lately."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from node.replay import replay_since
from node.settings import RuleSection, Settings

_MOST_SECONDS = 20.0
_MOST_SHOWN = 50


@dataclass(frozen=True, slots=True)
class RuleView:
    """One rule, and the conditions it makes, as they stand in the file."""

    name: str
    model: str
    report_model: str
    destinations: tuple[str, ...]
    shadow: bool
    early: bool
    conditions: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What one rule would have done."""

    rule: str
    fires: int = 0
    images: int = 0


@dataclass(slots=True)
class DryRun:
    """What a replay of the last days gave.

    Attributes
    ----------
    whole : bool
        False where it was ended before every study was looked at.
    shown : list of dict
        The first studies, as `ainode rules dry-run --json` has them.
    """

    studies: int = 0
    whole: bool = True
    tallies: dict[str, Tally] = field(default_factory=dict)
    shown: list[dict[str, Any]] = field(default_factory=list)


def rule_views(settings: Settings) -> list[RuleView]:
    """The rules, in their order."""
    return [
        RuleView(
            rule.name,
            rule.model,
            rule.report_model or "",
            tuple(rule.destinations),
            rule.shadow,
            bool(rule.early),
            _conditions(rule),
        )
        for rule in settings.rule
    ]


def dry_run(connection: Connection, now: float, days: float, settings: Settings) -> DryRun:
    """Replay what has arrived in the last days; ends after twenty seconds, and says so. Writes nothing."""
    result = DryRun(tallies={rule.name: Tally(rule.name) for rule in settings.rule})
    until = time.monotonic() + _MOST_SECONDS
    for replayed in replay_since(connection, now - days * 86400.0, settings):
        if time.monotonic() > until:
            result.whole = False
            break
        result.studies += 1
        for rule in (each for decision in replayed.decisions for each in decision["rules"]):
            if rule["matched"]:
                result.tallies[rule["rule"]].fires += 1
                result.tallies[rule["rule"]].images += rule["instances"]
        if len(result.shown) < _MOST_SHOWN:
            result.shown.append(replayed.to_dict())
    return result


def _conditions(rule: RuleSection) -> tuple[str, ...]:
    stated = rule.match.model_dump(mode="json", exclude_defaults=True)
    return tuple(_condition("", stated))


def _condition(prefix: str, stated: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, value in stated.items():
        if isinstance(value, dict):
            lines += _condition(f"{prefix}{key}.", value)
        else:
            words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"{prefix}{key} = {words}")
    return lines
