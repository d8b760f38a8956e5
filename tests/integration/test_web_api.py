"""The API against its own description: schemathesis makes requests of every operation, and holds every answer to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from node.accounts.roles import Role
from node.archive.engine import Store, open_store
from node.settings import Settings
from node.web.api import description
from tests.console import STUDY, fill, form_token, give_up, signed_in
from tests.migrated import upgrade

pytest_plugins = ["tests.store_fixtures"]

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """An administrator, a store with something in it, and a destination."""
    folder = tmp_path_factory.mktemp("api")
    made = Settings.model_validate(
        {
            "node": {"data_dir": str(folder)},
            "destination": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}},
            "rule": [{"name": "r", "model": "phantom", "destinations": ["pacs"]}],
        }
    )
    upgrade(made)
    (folder / "run").mkdir(exist_ok=True)
    store = open_store(made)
    try:
        give_up(store, fill(store))
        client = signed_in(made, store, Role.ADMINISTRATOR)
        client.headers["X-Form-Token"] = form_token(client)
        yield client
    finally:
        store.close()


def _identity(browser: TestClient) -> dict[str, str]:
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    return {"Cookie": cookies, "X-Form-Token": browser.headers["X-Form-Token"]}


def test_every_answer_is_as_described(browser: TestClient) -> None:
    """A bounded, repeatable sample of requests of every operation, valid ones and others."""
    identity = _identity(browser)
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", browser.app, headers=identity)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 20
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _hold(operation, mode, identity)


def _hold(operation: APIOperation, mode: GenerationMode, identity: dict[str, str]) -> None:
    @settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: Case) -> None:
        case.call_and_validate(headers=identity, checks=CHECKS)

    try:
        each()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, f"{operation.label}: nothing can be asked"


def test_a_study_and_what_can_be_done_with_it(store_settings: Settings, store: Store) -> None:
    job = fill(store)
    (store_settings.data_dir / "run").mkdir(exist_ok=True)
    client = signed_in(store_settings, store, Role.OPERATOR)
    client.headers["X-Form-Token"] = form_token(client)
    (line,) = client.get("/api/v1/studies", params={"accession": "A1"}).json()["studies"]
    assert (line["study_uid"], line["stage"], line["images"], line["jobs"]) == (STUDY, "arriving", 1, {"queued": 1})
    assert client.get("/api/v1/studies", params={"needs_somebody": True}).json()["studies"] == []
    assert client.post(f"/api/v1/jobs/{job}/cancel").json()["done"]
    refused = client.post(f"/api/v1/jobs/{job}/cancel")
    assert refused.status_code == 409 and refused.json()["code"] == "CFG-002" and refused.json()["remedy"]
    assert client.post(f"/api/v1/jobs/{job}/retry").json() == {"done": True, "detail": "", "numbers": [job]}
    give_up(store, job)
    (line,) = client.get("/api/v1/studies", params={"needs_somebody": True}).json()["studies"]
    assert line["reasons"] == ["JOB-003"]
    story = client.get(f"/api/v1/studies/{STUDY}").json()
    assert story["jobs"][0]["remedy"].startswith("See `ainode why`")
    assert [each["kind"] for each in story["events"]].count("person.acted") == 2
    assert client.post(f"/api/v1/studies/{STUDY}/hold", json={"reason": "x"}).json()["done"]
    assert not client.post(f"/api/v1/studies/{STUDY}/hold", json={}).json()["done"], "it was held already"
    assert client.post(f"/api/v1/studies/{STUDY}/release").json()["done"]
    misspelt = client.post(f"/api/v1/studies/{STUDY}/hold", json={"reson": "x"})
    assert misspelt.status_code == 422, "half of what was meant is not done"


def test_a_body_is_not_read_without_end(browser: TestClient) -> None:
    """It is read before it is asked who sends it."""
    stranger = TestClient(browser.app)
    answer = stranger.post(f"/api/v1/studies/{STUDY}/hold", json={"reason": "x" * 1_000_000})
    assert answer.status_code == 413


def test_the_description_is_the_one_in_the_documentation(browser: TestClient) -> None:
    """The API is stable: a route or field that goes, or another type, is seen in review as a change of this file."""
    kept = Path(__file__).with_name("api_v1.json")
    found = {
        path: {
            method: sorted(each["name"] for each in operation.get("parameters", []))
            for method, operation in sorted(operations.items())
        }
        for path, operations in sorted(description(browser.app)["paths"].items())  # type: ignore[arg-type]
    }
    schemas = description(browser.app)["components"]["schemas"]  # type: ignore[arg-type]
    fields = {name: sorted(each.get("properties", {})) for name, each in sorted(schemas.items())}
    assert json.loads(kept.read_text(encoding="utf-8")) == {"paths": found, "fields": fields}
