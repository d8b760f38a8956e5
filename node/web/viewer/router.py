"""The overlay viewer: a page for each study, the scene it draws, and structured reports as text."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.params import Depends
from fastapi.responses import HTMLResponse, JSONResponse

from node.accounts.sessions import Person
from node.archive import ledger
from node.archive.engine import Store
from node.settings import Settings
from node.web.dicomweb.failures import NOT_FOUND, refuse, required_uid
from node.web.viewer.scene import Contents, Scenes, reports


def viewer_router(
    settings: Settings, store: Store, *, read: Sequence[Depends] = (), page: Callable[..., Response]
) -> APIRouter:
    """``/study/{uid}/view`` and what belongs to it; nothing where DICOMweb is off, which gives it its pixels.

    Parameters
    ----------
    read : sequence of Depends
        What guards looking. Who looked is a row in the ledger, nothing else is written.
    page : callable
        Renders a template for whoever looks: request, person, name of the template, facts.
    """
    router = APIRouter(prefix="/study/{study_uid}", dependencies=list(read))
    if not settings.dicomweb.enabled:
        return router
    scenes = Scenes(settings, store)

    def contents_of(study_uid: str) -> Contents:
        contents = scenes.contents(required_uid(study_uid, "Study Instance UID"))
        if contents is None:
            refuse(NOT_FOUND, "no such study")
        return contents

    def shown(request: Request, template: str, **facts: Any) -> Response:
        return page(request, getattr(request.state, "person", None), template, **facts)

    @router.get("/view", response_class=HTMLResponse)
    def view(request: Request, study_uid: str) -> Response:
        contents = contents_of(study_uid)
        person: Person | None = getattr(request.state, "person", None)
        if person is not None:
            with store.write() as connection:
                facts = {"study": study_uid, **person.actor.facts()}
                ledger.record(connection, time.time(), ledger.Kind.PERSON_LOOKED, **facts)
        return shown(request, "view.html", contents=contents, reports=reports(contents.held))

    @router.get("/view/scene")
    def scene(study_uid: str) -> Response:
        return JSONResponse(scenes.scene(contents_of(study_uid)))

    @router.get("/report/{sop_instance_uid}", response_class=HTMLResponse)
    def report(request: Request, study_uid: str, sop_instance_uid: str) -> Response:
        uid = required_uid(sop_instance_uid, "SOP Instance UID")
        contents = contents_of(study_uid)
        found = reports([each for each in contents.held if each.sop_instance_uid == uid])
        if not found:
            refuse(NOT_FOUND, "no such report")
        return shown(request, "report.html", contents=contents, reports=found)

    return router
