"""The digest over a store of either kind: what it counts, in two languages, and that it names nobody."""

from __future__ import annotations

import json
import time
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from node.archive.engine import Store
from node.archive.tables import jobs, orders, studies
from node.digest import lines, make_digest
from node.monitor.digest_clock import DigestClock
from node.monitor.messenger import Messenger
from node.settings import Settings
from tests.notification_peers import MailServer
from tests.tls_certificates import Authority

pytest_plugins = ["tests.store_fixtures"]

HOUR = 3600.0


@pytest.fixture
def settings(store_settings: Settings) -> Settings:
    return Settings.model_validate(
        {
            "node": {"data_dir": str(store_settings.data_dir), "name": "ward"},
            "store": store_settings.store.model_dump(),
            "rule": [
                {"name": "stroke", "model": "m", "match": {"modality": ["MR"]}},
                {"name": "chest", "model": "m", "match": {"modality": ["DX"]}, "shadow": True},
            ],
        }
    )


def _fill(store: Store, now: float) -> None:
    def job(study: str, created: float, **values: Any) -> dict[str, Any]:
        row = {"rule": "stroke", "model_id": "m", "input_key": study, "run": 1, "priority": 2, "maximum_attempts": 3}
        row |= {
            "study_uid": study,
            "created_at": created,
            "specification": {},
            "state": "done",
            "ended_at": created + 60,
        }
        return {**row, "result": {"outcome": "found"}, **values}

    rows = [
        job("1", now - 2 * HOUR),
        job("2", now - 2 * HOUR, ended_at=now - HOUR),  # late
        job("3", now - 2 * HOUR, result={"outcome": "not_assessed"}),  # refused
        job("4", now - 2 * HOUR, state="dead", result=None),  # given up
        job("5", now - HOUR, state="running", ended_at=None, result=None),  # late, not answered
        job("6", now - 60, state="queued", ended_at=None, result=None),
        job("7", now - 2 * HOUR, state="done", result={"outcome": "not_assessed"}),
        job("7", now - HOUR, run=2, input_key="7b"),  # the second run is the answer
        job("8", now - 2 * HOUR, state="cancelled", result=None),
        job("9", now - 48 * HOUR),
        job("1", now - HOUR, rule="chest", input_key="x"),
        job("1", now - HOUR, input_key="y", run=3, kind="render"),
    ]
    with store.write() as connection:
        for row in rows:
            connection.execute(insert(jobs).values(**row))
        for number, modality in enumerate(["MR", "MR", "CT", "DX"]):
            connection.execute(
                insert(orders).values(
                    source="ris",
                    entry_key=str(number),
                    modality=modality,
                    starts_at=now - HOUR,
                    content={"patient_name": "SECRET^NAME"},
                    patient_id="SECRETID",
                    first_seen_at=now,
                    last_seen_at=now,
                )
            )
        for number in range(9):
            connection.execute(
                insert(studies).values(
                    study_uid=str(number),
                    first_at=now - HOUR,
                    last_at=now,
                    patient_id="SECRETID",
                    accession_number="SECRETACC",
                )
            )


def test_counts(store: Store, settings: Settings) -> None:
    now = time.time()
    _fill(store, now)
    with store.read() as connection:
        digest = make_digest(connection, settings, now - 24 * HOUR, now)
    stroke, chest = digest.rules
    assert (stroke.expected, stroke.arrived, stroke.answered, stroke.late, stroke.refused) == (2, 7, 5, 2, 2)
    assert (chest.expected, chest.arrived, chest.shadow) == (1, 1, True)
    assert digest.studies == 9
    text = "\n".join(lines(digest, ["en", "ja"])) + json.dumps(digest.as_json())
    assert "SECRET" not in text and "stroke: expected 2, arrived 7" in text and "予定 2, 到着 7" in text


def test_it_is_mailed_once_a_day(store: Store, settings: Settings, tmp_path: Path) -> None:
    (settings.data_dir / "run").mkdir(parents=True, exist_ok=True)
    certificate = Authority(tmp_path, "mail").issue("mail")
    (tmp_path / "passcode").write_text("mail-word")
    (tmp_path / "passcode").chmod(0o600)
    with MailServer(certificate).running() as server:
        mail = {
            "kind": "email",
            "host": "localhost",
            "port": server.port,
            "tls": {"ca": str(certificate.ca)},
            "sender": "node@h.test",
            "recipients": ["it@h.test"],
            "username": "ainode",
            "passcode_file": str(tmp_path / "passcode"),
        }
        monitor = {"digest_channels": ["mail"], "digest_at": "00:00", "digest_languages": ["ja"]}
        sections = settings.model_dump(include={"node", "store", "rule"})
        told = Settings.model_validate({**sections, "channel": {"mail": mail}, "monitor": monitor})
        for _ in range(2):
            DigestClock(told, store, Messenger(told)).look()
        (raw,) = server.messages
    message = message_from_bytes(raw, policy=policy.default)
    assert str(message["Subject"]).startswith("[ward] 日報")
    assert "stroke: 予定 0" in message.get_content()
