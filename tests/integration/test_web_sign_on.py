"""Hospital sign-on against a provider on loopback that keeps to the standard, and against one that does not."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from node.accounts import users
from node.accounts.roles import Role
from node.archive.engine import Store, open_store
from node.errors import ConfigError
from node.settings import Settings, load
from node.web.app import create_app
from tests.console import TESTS, acted, hashed
from tests.oidc_provider import CLIENT, SECRET, OidcProvider

pytest_plugins = ["tests.store_fixtures"]

CONSOLE = "http://ainode.test"


@pytest.fixture
def provider() -> Iterator[OidcProvider]:
    with OidcProvider().running() as running:
        yield running


@pytest.fixture
def store(provider: OidcProvider, tmp_path: Path, sqlite_template: Path) -> Iterator[Store]:
    shutil.copyfile(sqlite_template, tmp_path / "node.db")
    opened = open_store(configured(provider, tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def browser(provider: OidcProvider, store: Store, tmp_path: Path) -> TestClient:
    app = create_app(configured(provider, tmp_path), store)
    return TestClient(app, base_url=CONSOLE, follow_redirects=False)


def configured(provider: OidcProvider, folder: Path) -> Settings:
    secret = folder / "secret"
    secret.write_text(SECRET)
    oidc = {
        "issuer": provider.issuer,
        "client_id": CLIENT,
        "client_secret_file": str(secret),
        "viewer": ["radiology"],
        "operator": ["pacs-admins"],
    }
    return Settings.model_validate({"node": {"data_dir": str(folder)}, "web": {"public_url": CONSOLE, "oidc": oidc}})


def sign_on(browser: TestClient, change: Callable[[str], str] = lambda url: url) -> Any:
    """As a browser does it: away, recognised, back."""
    away = browser.get("/login/oidc?back=/studies")
    assert away.status_code == 303, away.text
    recognised = httpx.get(away.headers["location"], follow_redirects=False)
    return browser.get(change(recognised.headers["location"]))


def test_somebody_signs_on(browser: TestClient, provider: OidcProvider, store: Store) -> None:
    assert 'href="/login/oidc?back=' in browser.get("/login").text
    back = sign_on(browser)
    assert back.status_code == 200 and 'url=/studies"' in back.text
    assert "the-next" not in back.text and "samesite=strict" in back.headers["set-cookie"].lower()
    assert browser.get("/").status_code == 200
    assert browser.post("/api/v1/jobs/1/retry").status_code == 403, "a form's token is wanted all the same"
    (asked,) = provider.asked
    assert asked["code_challenge_method"] == "S256" and asked["redirect_uri"] == f"{CONSOLE}/login/oidc/return"
    with store.read() as connection:
        (row,) = users.listed(connection)
    assert (row.name, row.role, row.provider, row.subject, row.passcode_hash) == (
        "ada",
        "operator",
        "oidc",
        "u-1",
        None,
    )
    assert [each["kind"] for each in acted(store)] == ["person.account", "person.signed-in"]


def test_the_role_follows_the_claim(browser: TestClient, provider: OidcProvider, store: Store) -> None:
    sign_on(browser)
    provider.claims["groups"] = "radiology"
    sign_on(browser)
    with store.read() as connection:
        assert [row.role for row in users.listed(connection)] == ["viewer"]
    provider.claims["groups"] = ["kitchen"]
    assert sign_on(browser).status_code == 401


def test_nobody_becomes_a_local_user_by_his_name(browser: TestClient, provider: OidcProvider, store: Store) -> None:
    with store.write() as connection:
        users.add(connection, time.time(), "ada", Role.ADMINISTRATOR, hashed(), by=TESTS)
    sign_on(browser)
    with store.read() as connection:
        names = {row.name: row.role for row in users.listed(connection)}
    assert names.pop("ada") == "administrator"
    ((name, role),) = names.items()
    assert re.fullmatch(r"ada-[0-9a-f]{12}", name) and role == "operator"


def test_a_disabled_account_stays_out(browser: TestClient, store: Store) -> None:
    sign_on(browser)
    with store.write() as connection:
        users.set_disabled(connection, time.time(), "ada", disabled=True, by=TESTS)
    assert browser.get("/").status_code == 303
    assert sign_on(browser).status_code == 401
    assert browser.get("/").status_code == 303
    assert acted(store)[-1] == {**acted(store)[-1], "kind": "person.refused", "by": "ada", "why": "disabled"}


@pytest.mark.parametrize(
    "spoil",
    [
        {"iss": "http://127.0.0.1:1"},
        {"aud": "another-client"},
        {"aud": [CLIENT, "another-client"]},
        {"aud": [CLIENT, "another-client"], "azp": "another-client"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1},
        {"exp": None},
        {"iat": 4102444800},
        {"sub": None},
    ],
)
def test_a_token_that_is_not_for_this_sign_on(
    browser: TestClient, provider: OidcProvider, spoil: dict[str, Any]
) -> None:
    def change(claims: dict[str, Any]) -> None:
        for name, value in spoil.items():
            if value is None:
                del claims[name]
            else:
                claims[name] = value

    provider.spoil = change
    assert sign_on(browser).status_code == 401
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize("signing", ["none", "shared", "other"])
def test_a_token_that_the_provider_has_not_signed(browser: TestClient, provider: OidcProvider, signing: str) -> None:
    provider.signing = signing
    assert sign_on(browser).status_code == 401
    assert browser.get("/").status_code == 303


def test_an_answer_to_another_request(
    browser: TestClient, provider: OidcProvider, store: Store, tmp_path: Path
) -> None:
    assert sign_on(browser, lambda url: re.sub(r"state=[^&]+", "state=x", url)).status_code == 401
    assert sign_on(browser, lambda url: re.sub(r"iss=[^&]+", "iss=http%3A%2F%2Fevil.example", url)).status_code == 401
    assert sign_on(browser, lambda url: re.sub(r"code=[^&]+", "code=guessed", url)).status_code == 401
    # A stolen answer is of no use in another browser: it has no verifier, and no state of its own.
    other = TestClient(browser.app, base_url=CONSOLE, follow_redirects=False)
    away = browser.get("/login/oidc")
    stolen = httpx.get(away.headers["location"], follow_redirects=False).headers["location"]
    assert other.get(stolen).status_code == 401
    assert {each["kind"] for each in acted(store)} == {"person.refused"}


def test_a_provider_that_is_down(browser: TestClient, provider: OidcProvider, store: Store, tmp_path: Path) -> None:
    settings = configured(provider, tmp_path)
    oidc = settings.web.oidc.model_copy(update={"issuer": "http://127.0.0.1:9"})  # type: ignore[union-attr]
    web = settings.web.model_copy(update={"oidc": oidc})
    down = TestClient(create_app(settings.model_copy(update={"web": web}), store), base_url=CONSOLE)
    answer = down.get("/login/oidc")
    assert answer.status_code == 401 and "ACC-005" in answer.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[web]\nhost = '0.0.0.0'", "web.tls"),
        ("[web.oidc]\nissuer='https://i'\nclient_id='c'\nviewer=['x']", "public_url"),
        ("[web]\npublic_url='https://p'\n[web.oidc]\nissuer='http://i'\nclient_id='c'\nviewer=['x']", "https"),
        ("[web]\npublic_url='https://p'\n[web.oidc]\nissuer='https://i'\nclient_id='c'", "role"),
    ],
)
def test_settings_that_would_be_unsafe(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(file)
