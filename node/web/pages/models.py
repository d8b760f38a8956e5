"""Models: cards, approval, runs of the last days."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from node import actions
from node.errors import UsageError
from node.web.console import Console, back_to
from node.web.model_view import model_views
from node.web.pages.studies import Viewer
from node.web.permission import Person, Role, form_of, permit

Administrator = Annotated[Person, Depends(permit(Role.ADMINISTRATOR))]


def models_router(console: Console) -> APIRouter:
    """``/models``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/models", response_class=HTMLResponse)
    def models(request: Request, person: Viewer) -> Response:
        with console.store.read() as connection:
            found = model_views(connection, time.time(), console.settings)
        return console.page(request, person, "models.html", found=found)

    @router.post("/models/{model}/approve")
    async def approve(request: Request, model: str, person: Administrator) -> Response:
        fields = await form_of(request)
        if fields.get("accepted") != "yes":
            raise UsageError("read card and licence, and say that the licence is accepted")
        digest = fields.get("digest", "")
        await run_in_threadpool(
            actions.approve, console.settings, console.store, model, person.name, digest, by=person.actor
        )
        return back_to("/models", "approved", model)

    @router.post("/models/{model}/revoke")
    def revoke(model: str, person: Administrator) -> Response:
        actions.revoke(console.settings, console.store, model, person.name, by=person.actor)
        return back_to("/models", "revoked", model)

    return router
