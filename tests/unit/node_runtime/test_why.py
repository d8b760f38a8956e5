"""The story that `ainode why` tells stays readable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from node.archive import ledger
from node.archive.engine import Store, open_store
from node.archive.tables import studies
from node.settings import NodeSection, Settings
from node.why import tell
from tests.migrated import upgrade


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    settings = Settings(node=NodeSection(data_dir=tmp_path))
    upgrade(settings)
    opened = open_store(settings)
    yield opened
    opened.close()


def test_a_night_without_the_pacs_is_two_attempts_long(store: Store) -> None:
    """Two objects take turns, as they do; what came after the night is told in full."""

    def record(kind: ledger.Kind, uid: str, message: str | None = None) -> None:
        nonlocal now
        now += 1
        ledger.record(connection, now, kind, study_uid="1.2", sop_instance_uid=uid, destination="pacs", message=message)

    now = 1000.0
    with store.write() as connection:
        for _ in range(300):
            for uid in ("1.2.1", "1.2.2"):
                record(ledger.Kind.DELIVERY_SENDING, uid)
                record(ledger.Kind.DELIVERY_FAILED, uid, "no connection")
        record(ledger.Kind.DELIVERY_SENDING, "1.2.1")
        record(ledger.Kind.DELIVERY_FAILED, "1.2.1", "out of resources")
        record(ledger.Kind.DELIVERY_SENDING, "1.2.1")
        record(ledger.Kind.DELIVERY_STORED, "1.2.1")
    with store.read() as connection:
        story = tell(connection, "1.2")
    lines = story.splitlines()
    assert len(lines) < 30, story
    assert story.count("300 attempts in a row failed like this") == 2
    assert sum("sending to" in line for line in lines) == 2 * 2 + 2
    assert "out of resources" in story and "stored by pacs: object 1.2.1" in lines[-1]


def test_studies_with_one_accession_number_are_told_apart(store: Store) -> None:
    with store.write() as connection:
        for study_uid, at in (("1.1", 5.0), ("1.2", 6.0)):
            row = {"study_uid": study_uid, "state": "complete", "first_at": at, "last_at": at, "arrival": {}}
            connection.execute(insert(studies).values(**row, evaluated_at=at, patient_id="", accession_number="77"))
            ledger.record(connection, at, ledger.Kind.STUDY_HELD, study_uid=study_uid, reason=f"reason of {study_uid}")
            ledger.record(connection, at + 2, ledger.Kind.STUDY_RELEASED, study_uid=study_uid)
    with store.read() as connection:
        first, second = tell(connection, "77").split("\n\n")
    assert first.startswith("study 1.1\n") and "reason of 1.1" in first and "1.2" not in first
    assert second.startswith("study 1.2\n") and second.endswith("released by an operator")
