"""Users and tokens, for administrators."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from node.accounts import sessions, users
from node.accounts.roles import Role
from node.accounts.secrets import hash_passcode
from node.archive.engine import Store
from node.errors import AccountUnusable
from node.web.console import Console, back_to
from node.web.pages.models import Administrator
from node.web.permission import Person, form_of


def people_router(console: Console) -> APIRouter:
    """``/users``."""
    router = APIRouter(include_in_schema=False)
    store = console.store

    def shown(request: Request, person: Person, token: str = "") -> Response:
        with store.read() as connection:
            found, tokens = users.listed(connection), users.tokens_of(connection)
        facts: dict[str, Any] = {
            "users": found,
            "tokens": tokens,
            "roles": list(Role),
            "now": time.time(),
            "token": token,
        }
        return console.page(request, person, "users.html", **facts)

    @router.get("/users", response_class=HTMLResponse)
    def people(request: Request, person: Administrator) -> Response:
        return shown(request, person)

    @router.post("/users")
    async def add(request: Request, person: Administrator) -> Response:
        fields = await form_of(request)
        await run_in_threadpool(_add, store, fields, person)
        return back_to("/users", "user-added")

    @router.post("/users/{name}")
    async def change(request: Request, name: str, person: Administrator) -> Response:
        fields = await form_of(request)
        await run_in_threadpool(_change, store, name, fields, person)
        return back_to("/users", "user-changed")

    @router.post("/tokens", response_class=HTMLResponse)
    async def token(request: Request, person: Administrator) -> Response:
        fields = await form_of(request)
        made = await run_in_threadpool(_token, store, fields, person)
        return await run_in_threadpool(shown, request, person, made)

    @router.post("/tokens/{number}/revoke")
    def revoke(number: int, person: Administrator) -> Response:
        with store.write() as connection:
            sessions.revoke_api_token(connection, time.time(), number, by=person.actor)
        return back_to("/users", "token-revoked")

    return router


def _add(store: Store, fields: dict[str, str], person: Person) -> None:
    role, name = role_of(fields), users.normalised(fields.get("name", ""))
    hashed = hash_passcode(fields.get("passcode", ""), name=name)
    with store.write() as connection:
        users.add(connection, time.time(), name, role, hashed, by=person.actor)


def _change(store: Store, name: str, fields: dict[str, str], person: Person) -> None:
    hashed = hash_passcode(fields.get("passcode", ""), name=name) if fields.get("action") == "passcode" else ""
    with store.write() as connection:
        now, by = time.time(), person.actor
        match fields.get("action"):
            case "role":
                users.set_role(connection, now, name, role_of(fields), by=by)
            case "disable" | "enable":
                users.set_disabled(connection, now, name, disabled=fields["action"] == "disable", by=by)
            case "passcode":
                users.set_passcode(connection, now, name, hashed, by=by)
            case "totp-off":
                users.set_totp(connection, now, name, None, by=by)
            case _:
                raise AccountUnusable("say what is to be changed: role, disable, enable, passcode or totp-off")


def _token(store: Store, fields: dict[str, str], person: Person) -> str:
    try:
        days = float(fields.get("days", "") or 90.0)
    except ValueError as error:
        raise AccountUnusable("days is a number") from error
    owner, purpose = fields.get("owner", ""), fields.get("purpose", "")
    with store.write() as connection:
        return sessions.new_api_token(
            connection, time.time(), owner, purpose, role_of(fields), days=days, by=person.actor
        )


def role_of(fields: dict[str, str]) -> Role:
    """The role a form names.

    Raises
    ------
    AccountUnusable
        There is none of this name.
    """
    try:
        return Role(fields.get("role", ""))
    except ValueError as error:
        raise AccountUnusable(f"a role is one of {', '.join(Role)}") from error
