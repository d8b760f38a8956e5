"""The API, ``/api/v1``: stable JSON for programs, described by ``/api/v1/openapi.json``.

Fields are added, never renamed or removed, as long as it is v1. Times are seconds since the epoch. Nothing names a patient.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from node.web.api.configuration import configuration_router
from node.web.api.schemas import Fault
from node.web.api.state import state_router
from node.web.api.studies import studies_api_router
from node.web.api.work import work_router
from node.web.console import Console
from node.web.permission import Person, Role, permit

PREFIX = "/api/v1"
# Bodies are read before it is asked who sends them.
_LONGEST_BODY = 64 * 1024
_FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "The body cannot be read"},
    401: {"model": Fault, "description": "Nobody is signed in, and no good token was sent"},
    403: {"model": Fault, "description": "The role does not allow it"},
    404: {"model": Fault, "description": "There is no such thing"},
    409: {"model": Fault, "description": "It does not go as things stand; the remedy says what to do"},
    413: {"description": "The body is too long"},
    422: {"model": Fault, "description": "The request is not as described here"},
    503: {"model": Fault, "description": "Not now; the same call may succeed later"},
}


def add_api(app: FastAPI, console: Console) -> None:
    """Add every route of the API and its description."""
    for maker in (studies_api_router, work_router, configuration_router, state_router):
        app.include_router(maker(console), prefix=PREFIX, responses=_FAULTS, max_body_size=_LONGEST_BODY)
    described = APIRouter()

    @described.get("/openapi.json", include_in_schema=False)
    def openapi(person: Annotated[Person, Depends(permit(Role.VIEWER))]) -> dict[str, Any]:
        return description(app)

    app.include_router(described, prefix=PREFIX)


def description(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the API alone; made once."""
    if app.openapi_schema is None:
        routes = [each for each in iter_route_contexts(app.routes) if (each.path or "").startswith(PREFIX)]
        document = get_openapi(
            title="ainode", version="1", summary="A DICOM-native AI node", description=__doc__, routes=routes
        )
        schemes = {"token": {"type": "http", "scheme": "bearer", "description": "`ainode user token NAME`"}}
        document.setdefault("components", {})["securitySchemes"] = schemes
        document["security"] = [{"token": []}]
        app.openapi_schema = document
    return app.openapi_schema
