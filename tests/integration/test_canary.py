"""The canary's study meets its own rule and nobody else's, calls nobody, and leaves nothing but its rows in the ledger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from node import planning
from node.archive import canary_runs, index, ledger
from node.archive.canary_runs import CanaryState, Stage
from node.archive.engine import Store
from node.archive.headers import InstanceHeader
from node.archive.spool import study_folder
from node.archive.tables import associations, deliveries, instances, jobs, objects, studies
from node.arrival import Instant
from node.canary.cleaning import clean
from node.canary.flight import how_far
from node.notify.conditions import concerns
from node.settings import CANARY, NotifySection, Settings, load

pytest_plugins = ["tests.store_fixtures"]

CONFIG = """
[node]
data_dir = "data"
[arrival]
quiet_seconds = 0
association_end_quiet_seconds = 0
[canary]
enabled = true
[destination.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = 1
[[rule]]
name = "everything"
model = "infarct-adc-baseline"
destinations = ["pacs"]
"""


@pytest.fixture
def settings(tmp_path: Path, store_settings: Settings) -> Settings:
    (tmp_path / "node.toml").write_text(CONFIG)
    loaded = load(tmp_path / "node.toml")
    return loaded.model_copy(
        update={
            "node": loaded.node.model_copy(update={"data_dir": store_settings.data_dir}),
            "store": store_settings.store,
        }
    )


def _receive(store: Store, settings: Settings, study_uid: str, title: str = "CANARY") -> None:
    header = InstanceHeader(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid=f"{study_uid}.1",
        study_uid=study_uid,
        series_uid=f"{study_uid}.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="MR",
        patient_name="CANARY^PHANTOM",
        patient_id="CANARY",
        patient_birth_date="",
        accession_number="CANARY",
        routing={"modality": "MR"},
    )
    with store.write() as connection:
        index.record_instance(
            connection,
            time.time(),
            header=header,
            path=f"{study_folder(study_uid)}/x.dcm",
            digest="d",
            size=1,
            association_id=None,
            calling_ae_title=title,
            called_ae_title="AINODE",
        )
        planning.step(connection, time.time(), Instant("boot", time.monotonic()), study_uid, settings)


def _rules(store: Store, study_uid: str) -> set[str]:
    with store.read() as connection:
        return set(connection.execute(select(jobs.c.rule).where(jobs.c.study_uid == study_uid)).scalars())


def _begin(store: Store, study_uid: str) -> int:
    with store.write() as connection:
        return canary_runs.begin(connection, time.time(), study_uid)


def test_own_rule_and_no_other(store: Store, settings: Settings) -> None:
    _begin(store, "1.2.3")
    _receive(store, settings, "1.2.3")
    # Whoever calls itself CANARY, and is not, is an ordinary sender.
    _receive(store, settings, "1.2.4")
    _receive(store, settings, "1.2.5", title="CT1")
    assert _rules(store, "1.2.3") == {CANARY}
    assert _rules(store, "1.2.4") == _rules(store, "1.2.5") == {"everything"}
    with store.read() as connection:
        row = connection.execute(select(jobs).where(jobs.c.rule == CANARY)).one()
    assert row.specification["destinations"] == {CANARY: [CANARY]} and row.specification["further"] == {}


def test_nobody_is_called(settings: Settings) -> None:
    everything = NotifySection.model_validate({"name": "n", "priority": "stat", "when": {"outcome": ["found"]}})
    assert not concerns(everything, CANARY) and concerns(everything, "everything")
    assert settings.destination[CANARY].host == "127.0.0.1"
    assert [rule.destinations for rule in settings.rule if rule.name != CANARY] == [["pacs"]]


def _frozen(store: Store, study_uid: str, **values: Any) -> None:
    """A run that ended, with an object that is on its way."""
    with store.write() as connection:
        job = connection.execute(select(jobs.c.id).where(jobs.c.study_uid == study_uid)).scalar_one()
        connection.execute(update(jobs).values(state="done", result={"outcome": "found"}).where(jobs.c.id == job))
        connection.execute(
            insert(objects).values(
                sop_instance_uid=f"{study_uid}.9",
                sop_class_uid="1.2",
                series_uid="1.3",
                study_uid=study_uid,
                transfer_syntax_uid="1.2",
                job_id=job,
                role="seg",
                profile=CANARY,
                path=f"{study_folder(study_uid)}/o.dcm",
                digest="d",
                size=1,
                frozen_at=1.0,
            )
        )
        row = {"sop_instance_uid": f"{study_uid}.9", "destination": CANARY, "priority": 1, "created_at": 1.0}
        connection.execute(insert(deliveries).values(**{**row, "state": "queued", **values}))


def _stage(store: Store) -> Stage | None:
    with store.read() as connection:
        return how_far(connection, "1.2.3")[0]


def test_how_far_it_came(store: Store, settings: Settings) -> None:
    _begin(store, "1.2.3")
    assert _stage(store) is Stage.ARRIVAL
    _receive(store, settings, "1.2.3")
    assert _stage(store) is Stage.RUN
    _frozen(store, "1.2.3")
    for state, stage in (
        ("queued", Stage.DELIVERY),
        ("stored", Stage.COMMITMENT),
        ("committed", None),
    ):
        with store.write() as connection:
            connection.execute(update(deliveries).values(state=state))
        assert _stage(store) is stage
    with store.write() as connection:
        connection.execute(update(jobs).values(result={"outcome": "nothing_found"}))
    assert _stage(store) is Stage.ANSWER


def _count(store: Store) -> int:
    with store.read() as connection:
        tables = (studies, instances, jobs, objects, deliveries)
        return sum(int(connection.execute(select(func.count()).select_from(each)).scalar_one()) for each in tables)


def test_nothing_is_left(store: Store, settings: Settings) -> None:
    run = _begin(store, "1.2.3")
    _receive(store, settings, "1.2.3")
    _frozen(store, "1.2.3", state="committed")
    _receive(store, settings, "1.2.5", title="CT1")
    for folder in ("spool", "outbox"):
        path = settings.data_dir / folder / study_folder("1.2.3")
        path.mkdir(parents=True)
        (path / "x.dcm").write_bytes(b"x")
    assert clean(store, settings) == 0, "it still flies"
    with store.write() as connection:
        canary_runs.end(connection, time.time(), run, CanaryState.BACK)
    assert clean(store, settings) == 1
    assert clean(store, settings) == 0
    # The other study and its run are untouched.
    assert _count(store) == 3 and _rules(store, "1.2.5") == {"everything"}
    assert not list(settings.data_dir.glob("*/*/1.2.3"))
    with store.write() as connection:
        while ledger.seal(connection):
            pass
        assert ledger.verify(connection).intact
        assert connection.execute(select(func.count()).select_from(associations)).scalar_one() == 0


def test_a_lost_run_is_stopped_and_taken_away_later(store: Store, settings: Settings) -> None:
    run = _begin(store, "1.2.3")
    _receive(store, settings, "1.2.3")
    with store.write() as connection:
        canary_runs.end(connection, time.time(), run, CanaryState.LOST, stage="run", message="slow")
    assert clean(store, settings) == 0
    with store.read() as connection:
        assert connection.execute(select(jobs.c.state)).scalar_one() == "cancelled"
        assert canary_runs.latest(connection)[0].stage == "run"
        assert canary_runs.last_back(connection) is None
    with store.write() as connection:
        canary_runs.end(connection, time.time() - 3600, run, CanaryState.LOST)
    assert clean(store, settings) == 1
    assert _count(store) == 0
