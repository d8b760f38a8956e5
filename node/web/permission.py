"""Who sends a request, and whether he may: dependencies of routes.

Every route of the console, its API and DICOMweb takes one of them; :func:`check_every_route` holds that at the start. ::

    router = APIRouter(dependencies=[Depends(permit(Role.VIEWER))])

    @router.get("/studies")
    def studies(person: Annotated[Person, Depends(permit(Role.VIEWER))]) -> ...

People come with the cookie of a session, programs with ``Authorization: Bearer`` and a token. What changes something and
comes with a cookie also carries the token of the session's forms, in the field ``form_token`` or the header
``X-Form-Token``.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool

from node.accounts import sessions
from node.accounts.attempts import Attempts
from node.accounts.roles import Role
from node.accounts.sessions import Person
from node.archive.engine import Store
from node.archive.tables import ledger
from node.errors import NotPermitted, RequestForged
from node.settings import Settings

__all__ = ["Access", "Permit", "Person", "Role", "SignInNeeded", "check_every_route", "permit", "rules_of"]

OPEN_PATHS = frozenset(
    {
        *("/healthz", "/readyz", "/metrics", "/static", "/alert/{token}", "/preferences"),
        *("/login", "/login/oidc", "/login/oidc/return"),
    }
)
"""Paths that nobody has to sign in for; ``/metrics`` may want a token all the same (``web.metrics_need_token``)."""

REFRESH_HEADER = "X-Refresh"
"""Of requests that a page sends by itself: they do not keep a session alive, and neither does its stream of events."""
STREAM_PATH = "/events"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LONGEST_FORM = 64 * 1024
_FORM_TYPE = "application/x-www-form-urlencoded"


class SignInNeeded(Exception):
    """Nobody, or nobody any more, is known to send this request."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the dependencies look at; it stands in ``app.state.access``."""

    settings: Settings
    store: Store
    attempts: Attempts = field(default_factory=Attempts)

    @property
    def cookie(self) -> str:
        """Name of the session's cookie. ``__Host-`` binds it to this very host, and needs https."""
        return "__Host-ainode" if self.settings.web.secure else "ainode-session"

    def person_of(self, request: Request) -> Person | None:
        """Who sends a request; looks into the store."""
        address, now = address_of(request), time.time()
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return sessions.of_api_token(self.store, now, token.strip(), address=address)
        if not (cookie := request.cookies.get(self.cookie, "")):
            return None
        return sessions.of_cookie(
            self.store,
            now,
            cookie,
            address=address,
            idle_seconds=self.settings.web.session_idle_minutes * 60.0,
            by_hand=REFRESH_HEADER not in request.headers and request.url.path != STREAM_PATH,
        )


@dataclass(frozen=True, slots=True)
class Permit:
    """A dependency: the person, who has at least a role."""

    role: Role

    async def __call__(self, request: Request) -> Person:
        """Raise `SignInNeeded`, `NotPermitted` or `RequestForged`, or return who it is."""
        access: Access = request.app.state.access
        # Before the page is read: what changes while it is made is told to it afterwards.
        request.state.revision = await run_in_threadpool(revision, access.store)
        person = await run_in_threadpool(access.person_of, request)
        if person is None:
            raise SignInNeeded
        request.state.person = person
        if not person.role.covers(self.role):
            raise NotPermitted(f"this needs the role {self.role}; {person.name} is {person.role}")
        if person.session and request.method not in _SAFE:
            await check_form(request, person.form_token)
        return person


def permit(role: Role) -> Permit:
    """A dependency that lets through who has at least this role, and gives the route a :class:`Person`."""
    return Permit(role)


def revision(store: Store) -> int:
    """Number of the newest row of the ledger: whatever happens adds one."""
    with store.read() as connection:
        return int(connection.execute(select(func.max(ledger.c.id))).scalar_one_or_none() or 0)


async def check_form(request: Request, expected: str) -> None:
    """Refuse what did not come from a form of ours.

    Raises
    ------
    RequestForged
        No token, or another one; or the browser says that another site sent it.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise RequestForged("the browser says that another site has sent this")
    given = request.headers.get("X-Form-Token", "")
    if not given and request.headers.get("Content-Type", "").startswith(_FORM_TYPE):
        given = (await form_of(request)).get("form_token", "")
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise RequestForged


async def form_of(request: Request) -> dict[str, str]:
    """Fields of a form, the last of each name.

    Raises
    ------
    RequestForged
        It is longer than any form here.
    """
    if (known := getattr(request.state, "form", None)) is not None:
        return dict(known)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise RequestForged("the form is too long")
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    request.state.form = {name: values[-1] for name, values in fields.items()}
    return dict(request.state.form)


def address_of(request: Request) -> str:
    """Network address a request comes from, for the ledger."""
    return request.client.host[:64] if request.client else ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One route, and the role it asks for; None where it asks for none."""

    path: str
    methods: frozenset[str]
    role: Role | None


def rules_of(app: FastAPI) -> list[Rule]:
    """Every route and mount of an application with what it asks for."""
    return [
        Rule(
            context.path or "",
            frozenset(context.methods or ()),
            _needed(getattr(context, "dependant", None)) if isinstance(context.original_route, APIRoute) else None,
        )
        for context in iter_route_contexts(app.routes)
    ]


def check_every_route(app: FastAPI) -> None:
    """Refuse to serve a route that neither asks who calls nor is open on purpose.

    Raises
    ------
    RuntimeError
        Naming the route: a defect.
    """
    for rule in rules_of(app):
        if rule.role is None and rule.path not in OPEN_PATHS:
            raise RuntimeError(f"route {rule.path} asks nobody who he is")


def _needed(dependant: Dependant | None) -> Role | None:
    """The highest role that a route's dependencies ask for, theirs included."""
    if dependant is None:
        return None
    found = [each.call.role for each in dependant.dependencies if isinstance(each.call, Permit)]
    found += [role for each in dependant.dependencies if (role := _needed(each)) is not None]
    return max(found, key=lambda role: role.rank) if found else None
