"""The overlay viewer: a page for each study, the scene it draws, and structured reports as text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.params import Depends
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.templating import Jinja2Templates

from node.archive.engine import Store
from node.settings import Settings
from node.web.dicomweb.failures import NOT_FOUND, refuse, required_uid
from node.web.viewer.scene import Contents, Scenes, reports

_TEMPLATES = Path(__file__).parent.parent / "templates"
# The page's own script and what it fetches from here; nothing in line, nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def viewer_router(
    settings: Settings, store: Store, *, read: Sequence[Depends] = (), write: Sequence[Depends] = ()
) -> APIRouter:
    """``/study/{uid}/view`` and what belongs to it; nothing where DICOMweb is off, which gives it its pixels.

    Parameters
    ----------
    read, write : sequence of Depends
        What guards looking. Nothing is written.
    """
    router = APIRouter(prefix="/study/{study_uid}", dependencies=list(read))
    if not settings.dicomweb.enabled:
        return router
    scenes = Scenes(settings, store)
    templates = Jinja2Templates(directory=_TEMPLATES)
    common = {"node": settings.node.name, "version": version("ainode")}

    def contents_of(study_uid: str) -> Contents:
        contents = scenes.contents(required_uid(study_uid, "Study Instance UID"))
        if contents is None:
            refuse(NOT_FOUND, "no such study")
        return contents

    def page(request: Request, template: str, **facts: Any) -> Response:
        response = templates.TemplateResponse(request, template, {**common, **facts})
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    @router.get("/view", response_class=HTMLResponse)
    def view(request: Request, study_uid: str) -> Response:
        contents = contents_of(study_uid)
        return page(request, "view.html", contents=contents, reports=reports(contents.held))

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
        return page(request, "report.html", contents=contents, reports=found)

    return router
