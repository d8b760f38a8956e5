"""Models: their cards, whether they may serve, what they have done lately."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from models.card import Card
from models.errors import NodeError
from node.archive import approvals
from node.archive.tables import jobs
from node.installed_models import registry_of
from node.settings import Settings

if TYPE_CHECKING:
    from models.model import Model
    from models.registry import Registry

_RUNS_LOOKED_AT = 5000
DAYS = 14


@dataclass(frozen=True, slots=True)
class ModelView:
    """One installed model.

    Attributes
    ----------
    approval : str
        ``embedded`` came with the product, ``approved``, ``beside`` where another version is approved, ``changed`` since it
        was approved, ``none``, or ``not needed`` where the site wants none and there is one version.
    rules : tuple of str
        Rules that run this version.
    volumes : tuple of int
        Runs on each of the last fourteen days, today last.
    """

    card: Card
    digest: str
    approval: str
    approved_by: str
    approved_at: float | None
    missing: tuple[str, ...]
    rules: tuple[str, ...]
    volumes: tuple[int, ...]

    @property
    def may_serve(self) -> bool:
        """Whether runs of it start."""
        return self.approval in ("embedded", "approved", "not needed") and not self.missing


@dataclass(frozen=True, slots=True)
class ModelViews:
    """Every model; folders whose card is not valid, with the reason."""

    models: list[ModelView]
    problems: dict[str, str]


def model_views(connection: Connection, now: float, settings: Settings) -> ModelViews:
    """Read the cards, the approvals and the latest runs."""
    registry = registry_of(settings, connection)
    current = {row.model_id: row for row in reversed(approvals.listed(connection)) if row.revoked_at is None}
    days = _volumes(connection, now)
    found = [_view(registry, each, settings, current, days) for each in registry.list()]
    return ModelViews(found, {name: str(error) for name, error in sorted(registry.problems.items())})


def _view(
    registry: Registry, model: Model, settings: Settings, current: Mapping[str, Any], days: Counter[tuple[str, int]]
) -> ModelView:
    card = model.card
    approved = current.get(card.id)
    others = [each for each in registry.versions(card.id) if each is not model]
    state = _approval(model, others, approved, wanted=settings.models.require_approval)
    rules = [rule.name for rule in settings.rule if card.id in (rule.model, rule.report_model)]
    beside = state == "beside"
    return ModelView(
        card,
        model.digest,
        state,
        approved.approved_by if approved is not None else "",
        approved.approved_at if approved is not None else None,
        _missing(registry, model),
        () if beside else tuple(rules),
        tuple(0 if beside else days[card.id, ago] for ago in reversed(range(DAYS))),
    )


def _approval(model: Model, others: Sequence[Model], approved: Any, *, wanted: bool) -> str:
    if model.serves_unasked:
        return "embedded"
    if others and approved is not None and approved.digest != model.digest:
        return "beside" if any(approved.digest == each.digest for each in others) else "none"
    if not wanted and not others:
        return "not needed"
    if approved is None:
        return "none"
    return "approved" if approved.digest == model.digest else "changed"


def _missing(registry: Registry, model: Model) -> tuple[str, ...]:
    try:
        return registry.missing(model)
    except NodeError as error:
        return (str(error),)


def _volumes(connection: Connection, now: float) -> Counter[tuple[str, int]]:
    """Runs by model and days ago, of the latest runs: what it costs does not grow with the years."""
    latest = select(jobs.c.model_id, jobs.c.created_at).order_by(jobs.c.id.desc()).limit(_RUNS_LOOKED_AT)
    today = time.localtime(now)
    ordinal = _day(today)
    counted: Counter[tuple[str, int]] = Counter()
    for row in connection.execute(latest):
        counted[row.model_id, ordinal - _day(time.localtime(row.created_at))] += 1
    return counted


def _day(moment: time.struct_time) -> int:
    from datetime import date

    return date(*moment[:3]).toordinal()
