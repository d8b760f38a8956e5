"""One's own account: passcode and second factor."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from node.accounts import totp, users
from node.accounts.secrets import hash_passcode, passcode_fits
from node.errors import AccountUnusable, SignInRefused, TooManyAttempts
from node.site_secret import site_key
from node.web.console import Console, back_to
from node.web.pages.studies import Viewer
from node.web.permission import Access, Person, form_of


def account_router(console: Console, access: Access) -> APIRouter:
    """``/account``. What changes the account asks for its passcode again: a screen left alone changes nothing."""
    router = APIRouter(include_in_schema=False)
    store, key = console.store, site_key(console.settings.data_dir, totp.PURPOSE)

    @router.get("/account", response_class=HTMLResponse)
    def account(request: Request, person: Viewer) -> Response:
        with store.read() as connection:
            row = users.existing(connection, person.name)
        secret = totp.new_secret() if row.totp_secret is None else ""
        address = totp.address_of(secret, name=row.name, issuer=console.settings.node.name) if secret else ""
        return console.page(request, person, "account.html", account=row, secret=secret, otp_address=address)

    @router.post("/account/passcode")
    async def passcode(request: Request, person: Viewer) -> Response:
        fields = await form_of(request)
        await run_in_threadpool(_passcode, person, fields)
        return back_to("/login")

    @router.post("/account/totp")
    async def second_factor(request: Request, person: Viewer) -> Response:
        fields = await form_of(request)
        await run_in_threadpool(_totp, person, fields)
        return back_to("/account", "totp-changed")

    def _passcode(person: Person, fields: dict[str, str]) -> None:
        _recognised(person, fields)
        hashed = hash_passcode(fields.get("new", ""), name=person.name)
        with store.write() as connection:
            users.set_passcode(connection, time.time(), person.name, hashed, by=person.actor)

    def _totp(person: Person, fields: dict[str, str]) -> None:
        _recognised(person, fields)
        secret, now = fields.get("secret", ""), time.time()
        if secret:
            known = len(secret) == 32 and secret.isascii() and secret.isalnum()
            if not known or totp.step_of(secret, fields.get("code", ""), now) is None:
                raise AccountUnusable("the code is not the one of this secret; take the one the app shows now")
        sealed = totp.seal(secret, key) if secret else None
        with store.write() as connection:
            users.set_totp(connection, now, person.name, sealed, by=person.actor)

    def _recognised(person: Person, fields: dict[str, str]) -> None:
        """Refuse whoever does not know the passcode of the account he sits before."""
        now = time.time()
        if access.attempts.exceeded(person.address, now):
            raise TooManyAttempts
        with store.read() as connection:
            row: Any = users.existing(connection, person.name)
        if not person.session or not passcode_fits(fields.get("passcode", ""), row.passcode_hash):
            access.attempts.failed(person.address, now)
            raise SignInRefused("the passcode is not right")

    return router
