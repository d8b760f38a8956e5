"""The console: pages, API, health and metrics; and the pages behind acknowledge links."""

from __future__ import annotations

import shutil
import time

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles

from node.archive.engine import Store
from node.errors import StoreError
from node.settings import Settings
from node.web.acknowledge import add_acknowledgement
from node.web.api import add_api
from node.web.console import HERE, Console
from node.web.events import events_router
from node.web.faults import add_faults
from node.web.headers import Headers
from node.web.login import login_router
from node.web.metrics import render_metrics
from node.web.overview import counts
from node.web.pages import add_pages
from node.web.permission import Access, check_every_route
from node.web.preferences import preferences_router
from node.web.sign_on import sign_on_router


def create_app(settings: Settings, store: Store) -> FastAPI:
    """Return the application.

    Open to everybody: ``/healthz`` (this process answers), ``/readyz`` (database and disk are usable), ``/metrics``
    (Prometheus), ``/login``, ``/static`` and ``/alert/{token}`` (only where somebody is told). Everything else asks who it
    is and what he may: see :mod:`node.web.permission`.
    """
    app = FastAPI(title="ainode", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.access = access = Access(settings, store)
    app.add_middleware(Headers, access=access)
    console = Console.of(settings, store)
    add_faults(app, console)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    _add_probes(app, settings, store)
    if settings.channel:
        add_acknowledgement(app, settings, store, console.templates)
    app.include_router(login_router(console, access))
    if settings.web.oidc is not None:
        app.include_router(sign_on_router(console, access, settings.web.oidc))
    app.include_router(preferences_router(console))
    app.include_router(events_router(console, access))
    add_pages(app, console, access)
    add_api(app, console)
    check_every_route(app)
    return app


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
