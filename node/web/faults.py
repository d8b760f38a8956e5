"""What becomes of errors: a page that says what to do, or the same as JSON for programs."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from models.errors import NodeError, Transient
from node.errors import (
    AccountUnusable,
    NotPermitted,
    NotStored,
    RequestForged,
    SignInRefused,
    SignOnFailed,
    TooManyAttempts,
    UsageError,
)
from node.web.console import Console
from node.web.permission import SignInNeeded

logger = logging.getLogger(__name__)

_STATUS: dict[type[NodeError], int] = {
    NotStored: 404,
    NotPermitted: 403,
    RequestForged: 403,
    SignInRefused: 401,
    SignOnFailed: 401,
    TooManyAttempts: 429,
    AccountUnusable: 422,
}


def status_of(error: NodeError) -> int:
    """HTTP status: 409 where the thing asked for does not go as things stand."""
    if isinstance(error, Transient):
        return 503
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 409)


def add_faults(app: FastAPI, console: Console) -> None:
    """Handle errors of the product, of requests, and the absence of a session."""

    @app.exception_handler(SignInNeeded)
    async def sign_in(request: Request, error: Exception) -> Response:
        if for_program(request):
            body = {"code": "ACC-001", "message": "sign in, or send a token", "remedy": "Authorization: Bearer TOKEN"}
            return JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})
        if "HX-Request" in request.headers:
            return Response(status_code=401, headers={"HX-Redirect": "/login"})
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        back = f"?back={quote(path)}" if request.method == "GET" and path != "/" else ""
        return RedirectResponse(f"/login{back}", 303)

    @app.exception_handler(NodeError)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, NodeError)
        if error.code == "JOB-999" or not error.code:
            logger.error("request failed: %s", error)
        return _answer(request, status_of(error), error.code, error.message, error.remedy)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answer = _answer(request, error.status_code, UsageError.code, str(error.detail), "")
        for name, value in (error.headers or {}).items():
            answer.headers[name] = value
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # Never what was sent: it may hold what must not stand in an answer or a log.
        words = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
        return _answer(request, 422, UsageError.code, words.encode("utf-8", "replace").decode(), "")

    def _answer(request: Request, status: int, code: str, message: str, remedy: str) -> Response:
        if for_program(request):
            return JSONResponse({"code": code, "message": message, "remedy": remedy}, status)
        facts: dict[str, Any] = {"code": code, "message": message, "remedy": remedy, "number": status}
        return console.page(request, getattr(request.state, "person", None), "fault.html", status=status, **facts)


def for_program(request: Request) -> bool:
    """Whether an answer is for a program: the API, DICOMweb."""
    return request.url.path.startswith(("/api/", "/dicom-web"))
