"""Rules, and what they would have done with what has arrived lately."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from node.settings import load
from node.web.console import Console
from node.web.pages.studies import Viewer
from node.web.rule_view import dry_run, rule_views

MOST_DAYS = 31.0


def rules_router(console: Console) -> APIRouter:
    """``/rules``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/rules", response_class=HTMLResponse)
    def rules(request: Request, person: Viewer) -> Response:
        return console.page(request, person, "rules.html", rules=rule_views(console.settings), replayed=None)

    @router.get("/rules/dry-run", response_class=HTMLResponse)
    def dry(request: Request, person: Viewer, days: float = 7.0) -> Response:
        # The files as they are now: a changed rule is tried before the node is started again with it.
        settings = load(console.settings.source) if console.settings.source else console.settings
        with console.store.read() as connection:
            found = dry_run(connection, time.time(), min(max(days, 0.0), MOST_DAYS), settings)
        return console.page(request, person, "rules.html", rules=rule_views(settings), replayed=found, days=days)

    return router
