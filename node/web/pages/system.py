"""The node itself, and pauses."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from node import actions
from node.scopes import names_of
from node.web.console import Console, back_to
from node.web.pages.studies import Operator, Viewer
from node.web.permission import form_of
from node.web.system_view import system_view


def system_router(console: Console) -> APIRouter:
    """``/system`` and ``/pauses``."""
    router = APIRouter(include_in_schema=False)
    settings, store = console.settings, console.store

    @router.get("/system", response_class=HTMLResponse)
    def system(request: Request, person: Viewer) -> Response:
        with store.read() as connection:
            view = system_view(connection, settings)
        return console.page(request, person, "system.html", view=view, scopes=names_of(settings))

    @router.post("/pauses")
    async def pause(request: Request, person: Operator) -> Response:
        fields = await form_of(request)
        scope, _, name = fields.get("scope", "").partition(" ")
        await run_in_threadpool(actions.pause, settings, store, scope, name, fields.get("reason", ""), by=person.actor)
        return back_to("/system", "paused", "pauses")

    @router.post("/pauses/end")
    async def resume(request: Request, person: Operator) -> Response:
        fields = await form_of(request)
        await run_in_threadpool(
            actions.resume,
            settings,
            store,
            fields.get("scope", ""),
            fields.get("name", ""),
            fields.get("reason", ""),
            run_backlog=fields.get("backlog") != "discard",
            by=person.actor,
        )
        return back_to("/system", "resumed", "pauses")

    return router
