"""The console: pages, API, DICOMweb, viewer, health and metrics; and the pages behind acknowledge links."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles

from node.archive.engine import Store
from node.settings import Settings
from node.web.acknowledge import add_acknowledgement
from node.web.api import add_api
from node.web.console import HERE, Console
from node.web.dicomweb import add_cors, dicomweb_router
from node.web.events import events_router
from node.web.faults import add_faults
from node.web.headers import Headers
from node.web.login import login_router
from node.web.pages import add_pages
from node.web.permission import Access, Role, check_every_route, permit
from node.web.preferences import preferences_router
from node.web.probes import add_probes
from node.web.sign_on import sign_on_router
from node.web.viewer import viewer_router


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
    add_probes(app, settings, store)
    if settings.channel:
        add_acknowledgement(app, settings, store, console.templates)
    app.include_router(login_router(console, access))
    if settings.web.oidc is not None:
        app.include_router(sign_on_router(console, access, settings.web.oidc))
    app.include_router(preferences_router(console))
    app.include_router(events_router(console, access))
    add_pages(app, console, access)
    add_api(app, console)
    read, write = [Depends(permit(Role.VIEWER))], [Depends(permit(Role.OPERATOR))]
    app.include_router(dicomweb_router(settings, store, read=read, write=write))
    app.include_router(viewer_router(settings, store, read=read, page=console.page))
    check_every_route(app)
    add_cors(app, settings)
    return app
