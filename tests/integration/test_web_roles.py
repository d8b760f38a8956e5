"""Every route against every role: a route without a rule, or with another one than here, fails."""

from __future__ import annotations

import re

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from node.accounts.roles import Role
from node.archive.engine import Store
from node.settings import Settings
from node.web.app import create_app
from node.web.permission import OPEN_PATHS, Rule, check_every_route, rules_of
from tests.console import fill, form_token, session_of

pytest_plugins = ["tests.store_fixtures"]

# What a path may be used for by whom; the first that fits counts. Anything that changes something and is not named here
# is an operator's, anything that does not a viewer's.
MATRIX: list[tuple[str, str, Role]] = [
    ("POST", r"/logout|/account/(passcode|totp)", Role.VIEWER),
    ("POST", r"/(api/v1/)?models/.*", Role.ADMINISTRATOR),
    ("GET|POST", r"/(api/v1/)?(users|tokens)(/.*)?", Role.ADMINISTRATOR),
    ("POST|PUT|PATCH|DELETE", r"/.*", Role.OPERATOR),
    ("GET|HEAD", r"/.*", Role.VIEWER),
]


def expected(method: str, path: str) -> Role:
    return next(
        role for methods, pattern, role in MATRIX if method in methods.split("|") and re.fullmatch(pattern, path)
    )


def guarded(app: FastAPI) -> list[Rule]:
    return [rule for rule in rules_of(app) if rule.path not in OPEN_PATHS]


@pytest.fixture
def app(store_settings: Settings, store: Store) -> FastAPI:
    fill(store)
    return create_app(store_settings, store)


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_every_route_asks_for_the_role_it_should(app: FastAPI) -> None:
    rules = guarded(app)
    assert len(rules) > 40
    for rule in rules:
        for method in rule.methods - {"HEAD"}:
            assert rule.role is expected(method, rule.path), f"{method} {rule.path} asks for {rule.role}"


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_every_route_refuses_whoever_may_not(app: FastAPI, store: Store) -> None:
    """Asked over HTTP: nobody is sent away, a lower role is refused, and only what the role allows is let through."""
    browsers = {}
    for role in Role:
        client = TestClient(app, follow_redirects=False, raise_server_exceptions=True)
        client.cookies.set("ainode-session", session_of(store, role))
        browsers[role] = client
    nobody = TestClient(app, follow_redirects=False)
    for rule in guarded(app):
        path = re.sub(r"\{[^}]+\}", "1", rule.path)
        if path in ("/events", "/logout"):
            continue  # one never ends, the other ends what the following tests need
        for method in sorted(rule.methods - {"HEAD"}):
            assert nobody.request(method, path).status_code in (303, 401), f"{method} {path}"
            for role, client in browsers.items():
                token = {"X-Form-Token": form_token(client)}
                status = client.request(method, path, headers=token).status_code
                assert (status == 403) == (not role.covers(expected(method, rule.path))), f"{method} {path} as {role}"
                assert status < 500, f"{method} {path} as {role}: {status}"


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_what_stands_open_is_named(app: FastAPI) -> None:
    free = {rule.path for rule in rules_of(app) if rule.role is None}
    assert free == {"/healthz", "/readyz", "/metrics", "/static", "/login", "/preferences"}


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_a_route_that_asks_nobody_stops_the_start(app: FastAPI) -> None:
    router = APIRouter()
    router.add_api_route("/secret", lambda: "x")
    app.include_router(router)
    with pytest.raises(RuntimeError, match="/secret"):
        check_every_route(app)
