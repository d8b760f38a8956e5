"""The console: read-only pages, health and metrics; and the pages behind acknowledge links."""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from node.archive.engine import Store
from node.errors import StoreError
from node.settings import Settings
from node.web.acknowledge import add_acknowledgement
from node.web.dicomweb import add_cors, dicomweb_router
from node.web.metrics import render_metrics
from node.web.overview import counts, latest_studies
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
    _add_probes(app, settings, store)
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


def _add_probes(app: FastAPI, settings: Settings, store: Store) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    def readyz() -> Response:
        problems = []
        try:
            with store.read() as connection:
                counts(connection, time.time())
        except StoreError as error:
            problems.append(str(error))
        free = shutil.disk_usage(settings.data_dir).free
        if free < settings.receive.disk_reserve_bytes:
            problems.append(f"SPO-001: {free} bytes free, the reserve is {settings.receive.disk_reserve_bytes}")
        return JSONResponse({"ready": not problems, "problems": problems}, status_code=503 if problems else 200)

    @app.get("/metrics")
    def metrics() -> Response:
        with store.read() as connection:
            found = counts(connection, time.time())
        page = render_metrics(found, shutil.disk_usage(settings.data_dir).free)
        return Response(page, media_type="text/plain; version=0.0.4")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
