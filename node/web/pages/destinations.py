"""Destinations: circuit breaker, what waits, what they take."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from node import actions
from node.web.console import Console, back_to
from node.web.destination_view import destination_views
from node.web.pages.studies import Operator, Viewer


def destinations_router(console: Console) -> APIRouter:
    """``/destinations``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/destinations", response_class=HTMLResponse)
    def destinations(request: Request, person: Viewer) -> Response:
        with console.store.read() as connection:
            found = destination_views(connection, console.settings)
        return console.page(request, person, "destinations.html", destinations=found)

    @router.post("/destinations/{name}/replay")
    def replay(name: str, person: Operator) -> Response:
        actions.replay(console.settings, console.store, by=person.actor, destination=name)
        return back_to("/destinations", "replayed")

    return router
