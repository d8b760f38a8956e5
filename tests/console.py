"""A console as tests use it: people who have signed in, each with his role, and a store with something in it."""

from __future__ import annotations

import functools
import re
import time
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import insert

from node.accounts import sessions, users
from node.accounts.roles import Role
from node.accounts.secrets import hash_passcode
from node.accounts.signing_in import SignedIn
from node.accounts.users import Actor
from node.archive import index, ledger, tables
from node.archive.engine import Store
from node.archive.headers import InstanceHeader
from node.archive.tables import users as user_rows
from node.jobs import queue
from node.settings import Settings
from node.web.app import create_app

TESTS = Actor("tests", "command line")
PASSCODE = "a long enough passcode"
STUDY = "1.2.3"


@functools.cache
def hashed() -> str:
    """Hash of ``PASSCODE``; making one takes its time."""
    return hash_passcode(PASSCODE, name="nobody")


def signed_in(settings: Settings, store: Store, role: Role, **more: Any) -> TestClient:
    """A browser in which a user of this role has signed in; the hash of a passcode is left out, it takes its time."""
    client = TestClient(create_app(settings, store), **more)
    client.cookies.set(client.app.state.access.cookie, session_of(store, role))  # type: ignore[attr-defined]
    return client


def session_of(store: Store, role: Role) -> str:
    """Cookie of a new session of a user who has this role, made where there is none."""
    name, now = f"the-{role}", time.time()
    with store.write() as connection:
        if users.find(connection, name) is None:
            connection.execute(insert(user_rows).values(name=name, role=str(role), created_at=now))
        row = users.existing(connection, name)
        return sessions.begin(connection, now, SignedIn(row.id, name, row.role), address="test", hours=1.0)


def form_token(client: TestClient, path: str = "/") -> str:
    """Token of the forms on a page."""
    found = re.search(r'name="form_token" value="([^"]+)"', client.get(path).text)
    assert found, f"{path} has no form"
    return found.group(1)


def press(client: TestClient, path: str, *, page: str = "/", **fields: str) -> Any:
    """Send a form as a page would."""
    token = form_token(client, page)
    return client.post(path, data={"form_token": token, **fields}, follow_redirects=False)


def header(**values: Any) -> InstanceHeader:
    """What is known of one MR image."""
    facts = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
        "sop_instance_uid": "1.2.3.4.5",
        "study_uid": STUDY,
        "series_uid": "1.2.3.4",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "modality": "MR",
        "patient_name": "SECRET^NAME",
        "patient_id": "SECRETID",
        "patient_birth_date": "19011231",
        "accession_number": "A1",
        "routing": {"modality": "MR"},
        **values,
    }
    return InstanceHeader(**facts)  # type: ignore[arg-type]


def fill(store: Store, *, calling: str = "SCANNER", **values: Any) -> int:
    """Put a study with one image and one queued run into a store; return the run's number."""
    with store.write() as connection:
        now = time.time()
        index.record_instance(
            connection,
            now,
            header=header(**values),
            path="00/1.2.3/x.dcm",
            digest="d1",
            size=10,
            association_id=None,
            calling_ae_title=calling,
            called_ae_title="AINODE",
        )
        ledger.record(connection, now, ledger.Kind.INSTANCE_RECEIVED, study_uid=STUDY, calling_ae_title=calling)
        job = queue.enqueue(
            connection,
            now - 30,
            study_uid=STUDY,
            rule="r",
            model_id="m",
            input_key="k",
            priority=queue.Priority.ROUTINE,
            maximum_attempts=3,
            specification={},
            shadow=False,
        )
    assert job is not None
    return int(job)


def give_up(store: Store, job: int, code: str = "JOB-003") -> None:
    """Make a run one that was given up."""
    with store.write() as connection:
        dead = {"state": "dead", "error_code": code, "message": "it went wrong", "ended_at": time.time()}
        connection.execute(tables.jobs.update().where(tables.jobs.c.id == job).values(**dead))


def acted(store: Store) -> list[dict[str, Any]]:
    """What people did, as the ledger has it."""
    with store.read() as connection:
        rows = connection.execute(tables.ledger.select().where(tables.ledger.c.kind.like("person.%")))
        return [{"kind": row.kind, "study_uid": row.study_uid, **row.detail} for row in rows.all()]
