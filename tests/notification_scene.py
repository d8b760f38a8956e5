"""Runs that end and are told about, without a model: for tests of notifications."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select

from node.archive import index, tables
from node.archive.engine import Store
from node.archive.headers import InstanceHeader
from node.jobs import queue
from node.notify.alerts import Announced, announce
from node.notify.facts import facts_of_failure, facts_of_result
from node.notify.notifier import Notifier
from node.settings import Settings

STUDY = "1.2.3"
NAME, PATIENT_ID, BIRTH_DATE, ACCESSION = "SECRET^NAME^^DR^JR=秘密^名前", "SECRETID", "19011231", "SECRETACC"
SECRETS = ("SECRET", "NAME^", "秘密", PATIENT_ID, BIRTH_DATE, ACCESSION)

INFARCT = {"value": "432504007", "scheme": "SCT", "meaning": "Cerebral infarction"}
BRAIN = {"value": "12738006", "scheme": "SCT", "meaning": "Brain structure"}
HEMORRHAGE = {"value": "1386000", "scheme": "SCT", "meaning": "Intracranial hemorrhage"}


def receive(store: Store, *, patient_id: str = PATIENT_ID, digest: str = "d1") -> None:
    """File an image of the study, or a corrected copy of it."""
    header = InstanceHeader(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid="1.2.3.4.5",
        study_uid=STUDY,
        series_uid="1.2.3.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="MR",
        patient_name=NAME,
        patient_id=patient_id,
        patient_birth_date=BIRTH_DATE,
        accession_number=ACCESSION,
        routing={"modality": "MR"},
    )
    with store.write() as connection:
        index.record_instance(
            connection,
            time.time(),
            header=header,
            path=f"00/1.2.3/{digest}.dcm",
            digest=digest,
            size=10,
            association_id=None,
            calling_ae_title="",
            called_ae_title="",
        )


def summary(total_ml: float | None = 12.5, **changes: Any) -> dict[str, Any]:
    """``ResultBundle.summary`` of a run that found an infarct on the left."""
    region = {"label": "Infarct core 1", "volume_ml": total_ml, "laterality": "left"}
    return {
        "title": "Acute infarct core on diffusion MR",
        "finding": INFARCT,
        "site": BRAIN,
        "total_ml": total_ml,
        "detection_limit_ml": 0.3,
        "regions": [region] if total_ml else [],
        "findings": [{"concept": HEMORRHAGE, "probability": 0.25, "present": False, "side": "unknown"}],
        "texts": {"en": "An infarct core | of the left & a ^caret."},
        "model": "infarct",
        "model_version": "1.0",
        "refusal": None,
        **changes,
    }


def end_run(
    store: Store,
    settings: Settings,
    *,
    outcome: str = "found",
    found: Mapping[str, Any] | None = None,
    failure: tuple[str, str] | None = None,
    priority: int = 0,
    run: int = 1,
    digest: str = "d1",
    now: float | None = None,
    rule: str = "infarct",
) -> Announced:
    """Queue, lease and end a run, and hold the rules against it, in the node's own order."""
    at = time.time() if now is None else now
    with store.write() as connection:
        queue.enqueue(
            connection,
            at,
            study_uid=STUDY,
            rule=rule,
            model_id="infarct",
            input_key=f"key{run}",
            priority=queue.Priority(priority),
            maximum_attempts=3,
            specification={"files": [f"00/1.2.3/{digest}.dcm"], "destinations": {}, "profiles": {}},
            shadow=False,
            run=run,
        )
    with store.write() as connection:
        job = queue.lease(connection, at, owner="test", lease_seconds=60)
        assert job is not None
        common = {"rule": rule, "model": "infarct", "run": run, "priority": priority}
        if failure is not None:
            facts = facts_of_failure(**common, code=failure[0], message=failure[1])
            queue.fail(
                connection, at, job.id, "test", code=failure[0], message=failure[1], transient=False, retry_seconds=1
            )
        else:
            content = summary() if found is None else dict(found)
            facts = facts_of_result(**common, outcome=outcome, summary=content)
            queue.finish(connection, at, job.id, "test", result={"outcome": outcome, **content})
        return announce(
            connection,
            at,
            job_id=job.id,
            study_uid=STUDY,
            priority=priority,
            facts=facts,
            further={"big": {"wide": ["research"]}},
            settings=settings,
        )


def rows(store: Store, table: Any = tables.notifications, *conditions: Any) -> list[Any]:
    """Rows of a table in their order."""
    with store.read() as connection:
        return list(connection.execute(select(table).where(*conditions).order_by(table.c.id)))


def kinds(store: Store) -> list[str]:
    """Kinds of ledger rows about alerts and notifications, in order."""
    found = [row.kind for row in rows(store, tables.ledger)]
    return [kind for kind in found if kind.startswith(("alert.", "notification.", "notify."))]


@contextmanager
def running_notifier(settings: Settings, store: Store) -> Iterator[None]:
    """A notifier in this process."""
    stop = threading.Event()
    thread = threading.Thread(target=Notifier(settings, store).run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive(), "the notifier did not stop"
