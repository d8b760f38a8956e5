"""Who may enter the console: passcodes, locks, second factor, sessions, tokens, forms, headers."""

from __future__ import annotations

import re
import time
from pathlib import Path

import argon2
import pyotp
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from node.accounts import secrets, sessions, signing_in, totp, users
from node.accounts.attempts import Attempts
from node.accounts.roles import Role, lower
from node.accounts.secrets import hash_passcode, token_hash
from node.archive import tables
from node.archive.engine import Store
from node.errors import AccountUnusable
from node.settings import Settings
from node.web.app import create_app
from tests.console import PASSCODE, TESTS, acted, fill, form_token, hashed, press, signed_in

pytest_plugins = ["tests.store_fixtures"]


@pytest.fixture
def client(store_settings: Settings, store: Store) -> TestClient:
    """A browser before which nobody has signed in yet; there is a user ada."""
    with store.write() as connection:
        users.add(connection, time.time(), "Ada", Role.ADMINISTRATOR, hashed(), by=TESTS)
    return TestClient(create_app(store_settings, store), follow_redirects=False)


def enter(client: TestClient, passcode: str = PASSCODE, **more: str) -> int:
    token = form_token(client, "/login")
    return int(
        client.post("/login", data={"form_token": token, "name": "ada", "passcode": passcode, **more}).status_code
    )


def test_without_a_user_the_console_says_how_to_make_one(store_settings: Settings, store: Store) -> None:
    page = TestClient(create_app(store_settings, store)).get("/").text
    assert "ainode --config /etc/ainode/node.toml user add NAME --role administrator" in page


def test_signing_in_and_out(client: TestClient, store: Store) -> None:
    assert client.get("/studies").headers["location"] == "/login?back=/studies"
    assert enter(client) == 303
    cookie = client.cookies["ainode-session"]
    assert client.get("/").status_code == 200
    with store.read() as connection:
        (row,) = connection.execute(tables.user_sessions.select()).all()
    assert row.token_hash == token_hash(cookie) and cookie not in str(row)
    assert press(client, "/logout").status_code == 303
    client.cookies.set("ainode-session", cookie)
    assert client.get("/").status_code == 303, "the session ended, whoever kept its cookie"
    assert [each["kind"] for each in acted(store)] == ["person.account", "person.signed-in", "person.signed-out"]


def test_the_cookie_is_out_of_reach(client: TestClient, store_settings: Settings, store: Store) -> None:
    token = form_token(client, "/login")
    answer = client.post("/login", data={"form_token": token, "name": "ADA", "passcode": PASSCODE})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "secure" not in cookie.lower()
    web = store_settings.web.model_copy(update={"public_url": "https://ainode.hospital"})
    behind = TestClient(
        create_app(store_settings.model_copy(update={"web": web}), store),
        base_url="https://ainode.hospital",
        follow_redirects=False,
    )
    token = form_token(behind, "/login")
    answer = behind.post("/login", data={"form_token": token, "name": "ada", "passcode": PASSCODE})
    assert answer.headers["set-cookie"].startswith("__Host-ainode=") and "; Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]


def test_wrong_passcodes_lock_the_account_for_a_while(client: TestClient, store: Store) -> None:
    for _ in range(signing_in.FREE_FAILURES):
        assert enter(client, "a wrong passcode here") == 401
    assert enter(client) == 429, "locked, though the passcode is right"
    with store.write() as connection:
        connection.execute(update(tables.users).values(locked_until=0.0))
    assert enter(client) == 303
    refused = [each for each in acted(store) if each["kind"] == "person.refused"]
    assert [each["why"] for each in refused] == ["wrong passcode"] * 5 + ["locked"]


def test_an_unknown_name_is_not_told_from_a_wrong_passcode(client: TestClient, store: Store) -> None:
    token = form_token(client, "/login")
    pages = [
        client.post("/login", data={"form_token": token, "name": name, "passcode": "a wrong passcode here"}).text
        for name in ("ada", "nobody")
    ]
    assert pages[0] == pages[1]
    assert "nobody" not in str(acted(store)), "what was typed as a name may be a passcode"


def test_an_unknown_name_takes_as_long_as_a_wrong_passcode() -> None:
    """The hash compared with has the parameters of those that are made."""
    assert argon2.extract_parameters(secrets._NOBODY) == argon2.extract_parameters(
        hash_passcode("a sentence of many words", name="anna")
    )


def test_an_address_that_fails_too_often_is_not_heard() -> None:
    attempts = Attempts(failures=3, window_seconds=60.0)
    for _ in range(3):
        assert not attempts.exceeded("10.0.0.1", 100.0)
        attempts.failed("10.0.0.1", 100.0)
    assert attempts.exceeded("10.0.0.1", 150.0) and not attempts.exceeded("10.0.0.2", 150.0)
    assert not attempts.exceeded("10.0.0.1", 161.0)


def test_second_factor(client: TestClient, store: Store, store_settings: Settings) -> None:
    assert enter(client) == 303
    secret = re.search(r'id="secret">([A-Z2-7]+)<', client.get("/account").text)
    assert secret
    codes = pyotp.TOTP(secret.group(1))
    wrong = press(client, "/account/totp", secret=secret.group(1), code="000000", passcode=PASSCODE)
    assert wrong.status_code == 422
    done = press(client, "/account/totp", secret=secret.group(1), code=codes.now(), passcode=PASSCODE)
    assert done.status_code == 303
    client.cookies.delete("ainode-session")
    assert enter(client) == 401, "the passcode alone is not enough"
    code = codes.now()
    assert enter(client, code=code) == 303
    client.cookies.delete("ainode-session")
    assert enter(client, code=code) == 401, "no code is good twice"
    with store.read() as connection:
        assert secret.group(1) not in str(users.existing(connection, "ada"))


def test_codes_are_those_of_the_standard() -> None:
    """RFC 6238 appendix B, SHA-1, cut to six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for moment, code in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):
        assert totp.step_of(secret, code, moment) == moment // 30
        assert totp.step_of(secret, code, moment + 90) is None


def test_sessions_end(client: TestClient, store: Store) -> None:
    for column in ("seen_at", "expires_at"):
        assert enter(client) == 303 and client.get("/").status_code == 200
        with store.write() as connection:
            connection.execute(update(tables.user_sessions).values({column: 1.0}))
        assert client.get("/").status_code == 303, column
    assert enter(client) == 303
    with store.write() as connection:
        users.add(connection, time.time(), "eve", Role.ADMINISTRATOR, hashed(), by=TESTS)
        users.set_disabled(connection, time.time(), "ada", disabled=True, by=TESTS)
    assert client.get("/").status_code == 303
    assert enter(client) == 401


def test_a_page_that_refreshes_itself_does_not_keep_a_session_alive(client: TestClient, store: Store) -> None:
    assert enter(client) == 303
    earlier = time.time() - 1000.0
    with store.write() as connection:
        connection.execute(update(tables.user_sessions).values(seen_at=earlier))

    def seen_at() -> float:
        with store.read() as connection:
            return float(connection.execute(tables.user_sessions.select()).one().seen_at)

    assert client.get("/", headers={"X-Refresh": "1"}).status_code == 200
    assert seen_at() == earlier
    assert client.get("/").status_code == 200
    assert seen_at() > earlier


def test_forms_of_other_pages_do_nothing(store_settings: Settings, store: Store) -> None:
    job = fill(store)
    client = signed_in(store_settings, store, Role.OPERATOR, follow_redirects=False)
    other = form_token(signed_in(store_settings, store, Role.OPERATOR))
    assert client.post(f"/job/{job}/cancel").status_code == 403
    assert client.post(f"/job/{job}/cancel", data={"form_token": other}).status_code == 403
    own = {"form_token": form_token(client)}
    crossed = client.post(f"/job/{job}/cancel", data=own, headers={"Sec-Fetch-Site": "cross-site"})
    assert crossed.status_code == 403
    assert client.post(f"/api/v1/jobs/{job}/cancel").status_code == 403, "the API too, where a cookie is the identity"
    assert client.post(f"/job/{job}/cancel", data=own).status_code == 303


def test_a_login_form_of_another_page_does_nothing(client: TestClient) -> None:
    fields = {"name": "ada", "passcode": PASSCODE, "form_token": sessions.form_token("")}
    assert client.post("/login", data=fields).status_code == 403


def test_tokens(store_settings: Settings, store: Store) -> None:
    with store.write() as connection:
        now = time.time()
        users.add(connection, now, "ada", Role.OPERATOR, hashed(), by=TESTS)
        token = sessions.new_api_token(connection, now, "ada", "metrics", Role.VIEWER, days=1, by=TESTS)
        with pytest.raises(AccountUnusable):
            sessions.new_api_token(connection, now, "ada", "more", Role.ADMINISTRATOR, days=1, by=TESTS)
    client = TestClient(create_app(store_settings, store))
    bearer = {"Authorization": f"Bearer {token}"}
    assert client.get("/api/v1/studies").status_code == 401
    assert client.get("/api/v1/studies", headers={"Authorization": f"Bearer {token}x"}).status_code == 401
    assert client.get("/api/v1/studies", headers=bearer).status_code == 200
    assert client.post("/api/v1/jobs/1/retry", headers=bearer).status_code == 403, "a viewer's token"
    with store.write() as connection:
        (row,) = users.tokens_of(connection)
        assert row.used_at is not None and token not in str(row)
        sessions.revoke_api_token(connection, time.time(), row.id, by=TESTS)
    assert client.get("/api/v1/studies", headers=bearer).status_code == 401


def test_metrics_may_want_a_token(store_settings: Settings, store: Store) -> None:
    web = store_settings.web.model_copy(update={"metrics_need_token": True})
    with store.write() as connection:
        users.add(connection, time.time(), "prometheus", Role.VIEWER, hashed(), by=TESTS)
        token = sessions.new_api_token(connection, time.time(), "prometheus", "it", Role.VIEWER, days=1, by=TESTS)
    client = TestClient(create_app(store_settings.model_copy(update={"web": web}), store))
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert client.get("/healthz").status_code == 200


def test_nobody_locks_everybody_out(store: Store) -> None:
    with store.write() as connection:
        now = time.time()
        users.add(connection, now, "ada", Role.ADMINISTRATOR, hashed(), by=TESTS)
        with pytest.raises(AccountUnusable, match="last"):
            users.set_role(connection, now, "ada", Role.VIEWER, by=TESTS)
        with pytest.raises(AccountUnusable, match="last"):
            users.set_disabled(connection, now, "ada", disabled=True, by=TESTS)


@pytest.mark.parametrize("passcode", ["short", "has-ada-inside-it", "aaaaaaaaaaaaaaaa", "x" * 300])
def test_weak_passcodes(passcode: str) -> None:
    with pytest.raises(AccountUnusable) as refused:
        hash_passcode(passcode, name="ada")
    assert passcode not in str(refused.value)


def test_roles_are_a_ladder() -> None:
    assert Role.ADMINISTRATOR.covers(Role.OPERATOR) and not Role.VIEWER.covers(Role.OPERATOR)
    assert lower(Role.ADMINISTRATOR, Role.VIEWER) is Role.VIEWER


def test_headers_of_every_answer(store_settings: Settings, store: Store) -> None:
    client = signed_in(store_settings, store, Role.ADMINISTRATOR)
    for path in ("/", "/login", "/models", "/static/console.css", "/healthz", "/nowhere", "/api/v1/studies"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, path
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer", path


def test_links_lead_nowhere_else(client: TestClient) -> None:
    for elsewhere in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        assert client.get("/preferences", params={"back": elsewhere}).headers["location"] == "/"
    token = form_token(client, "/login")
    fields = {"form_token": token, "name": "ada", "passcode": PASSCODE, "back": "//evil.example"}
    assert client.post("/login", data=fields).headers["location"] == "/"


def test_no_page_holds_script_or_style_of_its_own() -> None:
    templates = Path(__file__).resolve().parents[2] / "node" / "web" / "templates"
    for file in templates.glob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|\|\s*safe", text), file.name
