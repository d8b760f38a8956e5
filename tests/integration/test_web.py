"""The console's pages over a store of either kind."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from node.archive import index, ledger
from node.archive.engine import Store
from node.archive.headers import InstanceHeader
from node.jobs import queue
from node.settings import Settings
from node.web.app import create_app

pytest_plugins = ["tests.store_fixtures"]

SECRETS = ("SECRET^NAME", "SECRETID", "19011231")
HOSTILE = "<script>alert(1)</script>"


def _fill(store: Store, **values: Any) -> None:
    facts = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
        "sop_instance_uid": "1.2.3.4.5",
        "study_uid": "1.2.3",
        "series_uid": "1.2.3.4",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "modality": "MR",
        "patient_name": SECRETS[0],
        "patient_id": SECRETS[1],
        "patient_birth_date": SECRETS[2],
        "accession_number": "A1",
        "routing": {"modality": "MR"},
        **values,
    }
    with store.write() as connection:
        now = time.time()
        index.record_instance(
            connection,
            now,
            header=InstanceHeader(**facts),  # type: ignore[arg-type]
            path="00/1.2.3/x.dcm",
            digest="d1",
            size=10,
            association_id=None,
            calling_ae_title="SCANNER",
            called_ae_title="AINODE",
        )
        ledger.record(connection, now, ledger.Kind.INSTANCE_RECEIVED, study_uid="1.2.3", calling_ae_title="SCANNER")
        queue.enqueue(
            connection,
            now - 30,
            study_uid="1.2.3",
            rule="r",
            model_id="m",
            input_key="k",
            priority=queue.Priority.ROUTINE,
            maximum_attempts=3,
            specification={},
            shadow=False,
        )


@pytest.fixture
def client(store_settings: Settings, store: Store) -> TestClient:
    return TestClient(create_app(store_settings, store))


def test_studies_and_story(client: TestClient, store: Store) -> None:
    assert "Nothing has been received yet" in client.get("/").text
    _fill(store)
    page = client.get("/")
    assert "1 queued" in page.text and 'href="/study/1.2.3"' in page.text
    assert "SCANNER" in client.get("/study/1.2.3").text
    assert client.get("/study/9.9").status_code == 404


def test_no_patient_on_any_page(client: TestClient, store: Store) -> None:
    _fill(store)
    for path in ("/", "/study/1.2.3", "/metrics", "/readyz", "/healthz"):
        text = client.get(path).text
        assert not [secret for secret in SECRETS if secret in text], path


def test_hostile_text_is_shown_as_text(client: TestClient, store: Store) -> None:
    _fill(store, accession_number=HOSTILE)
    page = client.get("/")
    assert HOSTILE not in page.text and "&lt;script&gt;" in page.text
    assert "script-src" not in page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_metrics(client: TestClient, store: Store) -> None:
    _fill(store)
    lines = client.get("/metrics").text.splitlines()
    assert 'ainode_jobs{state="queued"} 1.0' in lines
    assert any(line.startswith("ainode_oldest_queued_job_seconds 3") for line in lines)
    assert "ainode_outdated_deliveries 0.0" in lines


def test_readiness(store_settings: Settings, store: Store) -> None:
    enough = store_settings.model_copy(
        update={"receive": store_settings.receive.model_copy(update={"disk_reserve_bytes": 0})}
    )
    # No process of a node runs here: that it says, and nothing else (tests/integration/test_monitor_node.py has a whole one).
    problems = TestClient(create_app(enough, store)).get("/readyz").json()["problems"]
    assert problems and all("signs of life" in each or "listens" in each for each in problems)
    receive = store_settings.receive.model_copy(update={"disk_reserve_bytes": 2**60})
    full = store_settings.model_copy(update={"receive": receive})
    answer = TestClient(create_app(full, store)).get("/readyz")
    assert answer.status_code == 503
    assert "SPO-001" in answer.text
