"""Signing in and out."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from node.accounts import sessions, totp, users
from node.accounts.secrets import new_token
from node.accounts.signing_in import SignedIn, sign_in
from node.errors import AccountError, NodeError, TooManyAttempts
from node.site_secret import site_key
from node.web.console import Console, local_path
from node.web.permission import Access, Person, Role, address_of, check_form, form_of, permit

FORM_COOKIE = "ainode-form"


def login_router(console: Console, access: Access) -> APIRouter:
    """``/login`` and ``/logout``."""
    router = APIRouter(include_in_schema=False)
    key = site_key(console.settings.data_dir, totp.PURPOSE)

    def form(request: Request, error: NodeError | None = None, status: int = 200) -> Response:
        with console.store.read() as connection:
            nobody = not users.any_exists(connection)
        secret = request.cookies.get(FORM_COOKIE) or new_token()
        facts = {"nobody": nobody, "error": error, "oidc": console.settings.web.oidc}
        back = local_path(request.query_params.get("back", "/"))
        page = console.page(
            request, None, "login.html", status=status, form_token=sessions.form_token(secret), back=back, **facts
        )
        page.set_cookie(
            FORM_COOKIE, secret, httponly=True, samesite="strict", secure=console.settings.web.secure, path="/login"
        )
        return page

    @router.get("/login", response_class=HTMLResponse)
    def show(request: Request) -> Response:
        if access.person_of(request) is not None:
            return RedirectResponse(local_path(request.query_params.get("back", "/")), 303)
        return form(request)

    @router.post("/login", response_class=HTMLResponse)
    async def enter(request: Request) -> Response:
        fields = await form_of(request)
        await check_form(request, sessions.form_token(request.cookies.get(FORM_COOKIE, "") or new_token()))
        return await run_in_threadpool(_enter, request, fields)

    def _enter(request: Request, fields: dict[str, str]) -> Response:
        address, now = address_of(request), time.time()
        try:
            if access.attempts.exceeded(address, now):
                raise TooManyAttempts
            who = sign_in(
                console.store,
                now,
                fields.get("name", "")[:64],
                fields.get("passcode", ""),
                fields.get("code", "")[:16],
                address=address,
                key=key,
            )
        except AccountError as error:
            access.attempts.failed(address, now)
            return form(request, error, 429 if isinstance(error, TooManyAttempts) else 401)
        answer = RedirectResponse(local_path(fields.get("back", "/")), 303)
        return with_session(console, access, answer, who, address)

    @router.post("/logout")
    def leave(request: Request, person: Annotated[Person, Depends(permit(Role.VIEWER))]) -> Response:
        if person.session:
            with console.store.write() as connection:
                sessions.end(connection, time.time(), person)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(access.cookie, path="/", secure=console.settings.web.secure)
        return answer

    return router


def with_session(console: Console, access: Access, answer: Response, who: SignedIn, address: str) -> Response:
    """Begin a session and put its cookie into an answer."""
    web = console.settings.web
    with console.store.write() as connection:
        token = sessions.begin(connection, time.time(), who, address=address, hours=web.session_hours)
    # No Max-Age: the browser forgets it when it is closed; the store knows when it ends in any case.
    answer.set_cookie(access.cookie, token, httponly=True, samesite="strict", secure=web.secure, path="/")
    return answer
