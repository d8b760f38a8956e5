"""Destinations, models, rules."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Path, Query

from node import actions
from node.web.api.asked import ApprovalAsked
from node.web.api.schemas import Destination, Done, DryRun, Model, Rule, Tallied
from node.web.console import Console
from node.web.destination_view import destination_views
from node.web.model_view import ModelView, model_views
from node.web.pages.models import Administrator
from node.web.pages.rules import MOST_DAYS
from node.web.pages.studies import Viewer
from node.web.rule_view import dry_run, rule_views

ModelId = Annotated[str, Path(max_length=160)]


def configuration_router(console: Console) -> APIRouter:
    """``/destinations``, ``/models`` and ``/rules``."""
    router = APIRouter(tags=["destinations, models and rules"])
    settings, store = console.settings, console.store

    @router.get("/destinations")
    def destinations(person: Viewer) -> list[Destination]:
        """Destinations, their circuit breakers, what they take."""
        with store.read() as connection:
            return [Destination.model_validate(each) for each in destination_views(connection, settings)]

    @router.get("/models")
    def models(person: Viewer) -> list[Model]:
        """Installed models: cards, approvals, volumes."""
        with store.read() as connection:
            return [model_of(each) for each in model_views(connection, time.time(), settings).models]

    @router.post("/models/{model}/approve")
    def approve(person: Administrator, model: ModelId, asked: ApprovalAsked) -> Done:
        """Let these very files of a model serve."""
        version, digest = actions.approve(settings, store, model, person.name, asked.digest, by=person.actor)
        return Done(done=True, detail=f"{version} {digest}")

    @router.post("/models/{model}/revoke")
    def revoke(person: Administrator, model: ModelId) -> Done:
        """Take a model's approval back."""
        return Done(done=actions.revoke(settings, store, model, person.name, by=person.actor))

    @router.get("/rules")
    def rules(person: Viewer) -> list[Rule]:
        """Rules of the running configuration."""
        return [Rule.model_validate(each) for each in rule_views(settings)]

    @router.get("/rules/dry-run")
    def dry(person: Viewer, days: Annotated[float, Query(ge=0, le=MOST_DAYS)] = 7.0) -> DryRun:
        """What these rules would have done with what has arrived. Starts and writes nothing."""
        with store.read() as connection:
            found = dry_run(connection, time.time(), days, settings)
        return DryRun(
            studies=found.studies,
            whole=found.whole,
            rules=[Tallied.model_validate(each) for each in found.tallies.values()],
            shown=found.shown,
        )

    return router


def model_of(view: ModelView) -> Model:
    """A model as the API says it."""
    card = view.card
    return Model(
        model=card.id,
        version=card.version,
        name=card.name,
        family=str(card.family),
        licence=card.licence,
        intended_use=card.intended_use,
        digest=view.digest,
        approval=view.approval,
        approved_by=view.approved_by,
        approved_at=view.approved_at,
        may_serve=view.may_serve,
        missing=list(view.missing),
        rules=list(view.rules),
        runs_per_day=list(view.volumes),
        card=card.model_dump(mode="json"),
    )
