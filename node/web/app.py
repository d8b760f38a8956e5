"""The console: read-only pages, health and metrics; and the pages behind acknowledge links."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from node.archive.engine import Store
from node.settings import Settings
from node.web.acknowledge import add_acknowledgement
from node.web.dicomweb import add_cors, dicomweb_router
from node.web.overview import latest_studies
from node.web.probes import add_probes
from node.web.viewer import viewer_router
from node.why import tell

_HERE = Path(__file__).parent
_POLICY = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def create_app(settings: Settings, store: Store) -> FastAPI:
    """Return the application. It reads the store and nothing else, but for acknowledgements.

    Routes: ``/`` studies, ``/study/{uid}`` the story of one, ``/healthz`` (this process answers), ``/readyz`` (database and
    disk are usable), ``/metrics`` (Prometheus),
    ``/alert/{token}`` (only where somebody is told).
    """
    app = FastAPI(title="ainode", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    app.middleware("http")(_secured)
    _add_pages(app, settings, store)
    add_probes(app, settings, store)
    app.include_router(dicomweb_router(settings, store))
    app.include_router(viewer_router(settings, store))
    add_cors(app, settings)
    return app


async def _secured(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


def _add_pages(app: FastAPI, settings: Settings, store: Store) -> None:
    templates = Jinja2Templates(directory=_HERE / "templates")
    templates.env.filters["moment"] = _moment
    common = {"node": settings.node.name, "version": version("ainode")}
    if settings.channel:
        add_acknowledgement(app, settings, store, templates)

    @app.get("/", response_class=HTMLResponse)
    def studies(request: Request) -> Response:
        with store.read() as connection:
            lines = latest_studies(connection)
        return templates.TemplateResponse(request, "studies.html", {**common, "studies": lines})

    @app.get("/study/{study_uid}", response_class=HTMLResponse)
    def study(request: Request, study_uid: str) -> Response:
        with store.read() as connection:
            story = tell(connection, study_uid)
        if not story:
            return PlainTextResponse("no such study\n", status_code=404)
        return templates.TemplateResponse(request, "story.html", {**common, "study_uid": study_uid, "story": story})


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
