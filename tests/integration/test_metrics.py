"""The page of figures over a store of either kind: what is on it, and that its cost does not grow with what is stored."""

from __future__ import annotations

import re
import subprocess
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, event, insert

from node.archive import canary_runs, index, ledger
from node.archive.canary_runs import CanaryState
from node.archive.engine import Store
from node.archive.headers import InstanceHeader
from node.archive.tables import deliveries, jobs, ledger_readers, objects, pauses
from node.delivery import commitments, gate_states, outbox
from node.metrics.page import MetricsPage
from node.monitor.alarms import Alarms
from node.monitor.condition import Alarm, Condition
from node.monitor.forecast import take_sample
from node.pulse import Pulse
from node.settings import Settings
from tests.peers import require
from tests.unit.architecture.test_monitoring_files import metrics_named

pytest_plugins = ["tests.store_fixtures"]


def _values(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def _job(store: Store, now: float, number: int, **values: Any) -> None:
    row = {
        "id": number,
        "study_uid": f"1.2.{number}",
        "rule": "stroke",
        "model_id": "m",
        "input_key": "k",
        "run": 1,
        "priority": 2,
        "state": "done",
        "attempts": 1,
        "maximum_attempts": 3,
        "created_at": now,
        "specification": {},
        **values,
    }
    with store.write() as connection:
        connection.execute(insert(jobs).values(**row))


def _image(store: Store, at: float, study: str) -> None:
    header = InstanceHeader(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid=f"{study}.1",
        study_uid=study,
        series_uid=f"{study}.0",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="MR",
        patient_name="SECRET^NAME",
        patient_id="SECRETID",
        patient_birth_date="19011231",
        accession_number="SECRETACC",
        routing={},
    )
    with store.write() as connection:
        index.record_instance(
            connection,
            at,
            header=header,
            path=f"aa/{study}/x.dcm",
            digest="d",
            size=1,
            association_id=None,
            calling_ae_title="CT1",
            called_ae_title="AINODE",
        )


def _delivered(store: Store, now: float, number: int, destination: str = "pacs") -> None:
    """An object of a job, stored at a destination and committed at ``now``."""
    with store.write() as connection:
        connection.execute(
            insert(objects).values(
                sop_instance_uid=f"9.{number}",
                sop_class_uid="1.2",
                series_uid="1.3",
                study_uid=f"1.2.{number}",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                job_id=number,
                role="seg",
                profile="default",
                path="x",
                digest="d",
                size=1,
                frozen_at=now,
            )
        )
        connection.execute(
            insert(deliveries).values(
                sop_instance_uid=f"9.{number}", destination=destination, state="stored", priority=2, created_at=now
            )
        )
        row = outbox.list_deliveries(connection)[-1]
        commitments.open_commitment(
            connection,
            now,
            transaction_uid=f"7.{number}",
            destination=destination,
            delivery_ids=[row.id],
            due_at=now + 9,
        )
        commitments.resolve_commitment(connection, now, f"7.{number}", [f"9.{number}"], {})


def _seal(store: Store) -> None:
    with store.write() as connection:
        while ledger.seal(connection):
            pass


def test_figures_are_right(store_settings: Settings, store: Store) -> None:
    page = MetricsPage(store_settings, store)
    page.render()
    now = time.time()
    _image(store, now - 100, "1.2.1")
    _job(store, now - 90, 1)
    _job(store, now - 45, 2, state="queued", priority=0)
    _job(store, now - 400, 3, state="queued", priority=3)
    _delivered(store, now - 40, 1)
    with store.write() as connection:
        record = ledger.record
        record(
            connection,
            now,
            ledger.Kind.JOB_FINISHED,
            job_id=1,
            outcome="found",
            timings={"a": 1.0, "b": 2.0},
            model="m",
            provider="CPU",
        )
        record(connection, now, ledger.Kind.JOB_REFUSED, job_id=1, code="SER-004")
        record(connection, now, ledger.Kind.ASSOCIATION_REJECTED, reason="called AE title", calling_ae_title="X")
    _seal(store)
    values = _values(page.render())
    assert values["ainode_queued_jobs", (("priority", "stat"),)] == 1
    assert 45 <= values["ainode_queue_age_seconds", (("priority", "stat"),)] < 60
    assert 400 <= values["ainode_queue_age_seconds", (("priority", "off-peak"),)] < 420
    assert values["ainode_runs_total", (("outcome", "found"), ("rule", "stroke"))] == 1
    assert values["ainode_refusals_total", (("code", "SER-004"),)] == 1
    assert values["ainode_rejections_total", (("reason", "called AE title"),)] == 1
    assert values["ainode_model_runs_total", (("model", "m"), ("provider", "CPU"))] == 1
    assert values["ainode_deliveries", (("destination", "pacs"), ("state", "committed"))] == 1
    # Last image 100 s ago, committed 40 s ago.
    assert values["ainode_last_image_to_commitment_seconds_sum", (("rule", "stroke"),)] == pytest.approx(60, abs=0.1)
    assert values["ainode_run_seconds_sum", (("rule", "stroke"),)] == 3.0
    assert values["ainode_instances_received_total", ()] == 1
    # Two wait, a run takes 3 s, and one dispatcher works.
    assert values["ainode_queue_drain_seconds", ()] == 6.0
    # The same rows are never counted again.
    again = _values(page.render())
    assert again["ainode_runs_total", (("outcome", "found"), ("rule", "stroke"))] == 1
    assert again["ainode_last_image_to_commitment_seconds_count", (("rule", "stroke"),)] == 1


def test_every_named_metric_is_there(store_settings: Settings, store: Store) -> None:
    """With one of everything, the page has each metric that alert rules and dashboard name."""
    data, now = store_settings.data_dir, time.time()
    (data / "run").mkdir(parents=True, exist_ok=True)
    page = MetricsPage(store_settings, store)
    page.render()
    _image(store, now - 100, "1.2.1")
    _job(store, now - 90, 1)
    _job(store, now - 90, 2, state="running", started_at=now - 5)
    _delivered(store, now, 1)
    with store.write() as connection:
        for kind, facts in (
            (ledger.Kind.JOB_FINISHED, {"outcome": "found", "timings": {"a": 1.0}, "model": "m", "provider": "CPU"}),
            (ledger.Kind.JOB_REFUSED, {"code": "SER-004"}),
            (ledger.Kind.ASSOCIATION_REJECTED, {"reason": "address"}),
        ):
            ledger.record(connection, now, kind, job_id=1, **facts)
        connection.execute(insert(pauses).values(scope="model", name="m", reason="r", by="b", since=now))
        connection.execute(insert(ledger_readers).values(name="audit", sequence=0, at=now))
        number = canary_runs.begin(connection, now - 9, "5.5")
        canary_runs.end(connection, now, number, CanaryState.BACK)
    _seal(store)
    page.render()
    with store.write() as connection:
        connection.execute(
            insert(deliveries).values(
                sop_instance_uid="9.1", destination="cloud", state="failed", priority=2, created_at=now - 60
            )
        )
    gate_states.publish(data, {"pacs": gate_states.GateState("open", now + 60, now)})
    Pulse(data, "dispatcher").beat(models={"m": {"passed": True, "fell_back": False}})
    Pulse(data, "monitor").beat(certificates={"peer destination.pacs": now + 86400})
    Alarms(data, [], repeat_seconds=60).update([Condition(Alarm.DISK_FULL, "", "words")], now)
    take_sample(data)
    (data / "run" / "disk-history.json").write_text(f"[[{now - 9e4}, 9000], [{now - 5e4}, 8000], [{now}, 7000]]")
    _seal(store)
    text = page.render().decode()
    names = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    missing = metrics_named() - names
    # Nothing has been told to anybody here; these have a head all the same.
    assert {name for name in missing if f"# TYPE {name} " not in text} == set()
    assert missing <= {"ainode_alerts", "ainode_notifications", "ainode_open_associations"}
    assert "SECRET" not in text and "1.2.1" not in re.sub(r"version=\S+", "", text)


@pytest.mark.peer
def test_promtool_takes_the_page(store_settings: Settings, store: Store) -> None:
    page = MetricsPage(store_settings, store).render()
    done = subprocess.run([require("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    assert b"error" not in done.stderr.lower(), done.stderr.decode()


def test_cost_does_not_grow_with_images(store: Store, store_settings: Settings) -> None:
    """A scrape where nothing new has happened asks the table of images for its last number and nothing else."""
    page = MetricsPage(store_settings, store)
    page.render()
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        page.render()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert any("FROM jobs" in each for each in asked)
    of_images = [" ".join(each.split()) for each in asked if re.search(r"\b(FROM|JOIN) instances\b", each)]
    assert of_images == ["SELECT max(instances.id) AS max_1 FROM instances"]
