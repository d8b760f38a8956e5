"""Signing in at the hospital's sign-on: away to it, and back."""

from __future__ import annotations

import html
import json
import time

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from node.accounts import users
from node.accounts.oidc import Provider, SignOnRequest
from node.accounts.signing_in import note_sign_on
from node.archive import ledger
from node.errors import SignOnFailed, TooManyAttempts
from node.settings import OidcSection
from node.web.console import Console, local_path
from node.web.login import with_session
from node.web.permission import Access, address_of

_COOKIE = "ainode-sign-on"
_RETURN = "/login/oidc/return"
_MINUTES = 10


def sign_on_router(console: Console, access: Access, section: OidcSection) -> APIRouter:
    """``/login/oidc`` and ``/login/oidc/return``."""
    router = APIRouter(include_in_schema=False)
    web = console.settings.web
    provider = Provider(section, web.public_url.rstrip("/") + _RETURN)

    @router.get("/login/oidc")
    def away(request: Request, back: str = "/") -> Response:
        asked, address = provider.begin()
        answer = RedirectResponse(address, 303)
        kept = {"state": asked.state, "nonce": asked.nonce, "verifier": asked.verifier, "back": local_path(back)}
        # Lax, not Strict: it has to come along when the provider sends the browser back.
        answer.set_cookie(
            _COOKIE,
            json.dumps(kept).encode().hex(),
            max_age=_MINUTES * 60,
            httponly=True,
            samesite="lax",
            secure=web.secure,
            path="/login/oidc",
        )
        return answer

    @router.get(_RETURN, response_class=HTMLResponse)
    def returned(request: Request) -> Response:
        address, now = address_of(request), time.time()
        try:
            if access.attempts.exceeded(address, now):
                raise TooManyAttempts
            asked, back = _remembered(request.cookies.get(_COOKIE, ""))
            who = provider.finish(asked, dict(request.query_params))
        except SignOnFailed as error:
            access.attempts.failed(address, now)
            with console.store.write() as connection:
                why = error.message
                ledger.record(connection, now, ledger.Kind.PERSON_REFUSED, why=why, provider="oidc", address=address)
            raise
        with console.store.write() as connection:
            row = users.from_provider(connection, now, who.subject, who.name, who.role)
            signed = note_sign_on(connection, now, row, address=address)
        if signed is None:
            raise SignOnFailed("this account is disabled here")
        # A redirect would still count as coming from the provider, and the Strict cookie would stay behind.
        onward = html.escape(back, quote=True)
        page = HTMLResponse(
            f'<!doctype html><html lang="en"><title>ainode</title><meta http-equiv="refresh" content="0;url={onward}">'
            f'<a href="{onward}">ainode</a></html>'
        )
        page.delete_cookie(_COOKIE, path="/login/oidc", secure=web.secure)
        return with_session(console, access, page, signed, address)

    return router


def _remembered(cookie: str) -> tuple[SignOnRequest, str]:
    try:
        kept = json.loads(bytes.fromhex(cookie))
        return SignOnRequest(kept["state"], kept["nonce"], kept["verifier"]), local_path(kept["back"])
    except (ValueError, KeyError, TypeError) as error:
        raise SignOnFailed("this browser has not asked to sign on, or too long ago") from error
