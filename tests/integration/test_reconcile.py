"""What real archives have, held against what is here and answered; the watch on an archive that cannot route."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from node import site_time
from node.archive import archive_studies, orders, tables
from node.cli import app
from node.dicom.outside import Outside
from node.dicom.pacs import TestPacs
from node.dicom.reconciliation import Reconciler
from node.dicom.study_fetch import StudyFetcher
from node.listed import Finding
from node.orders import Order
from tests.archive_peers import dcmqrscp_archive, orthanc_archive
from tests.arrival.ward import Ward, open_ward
from tests.modality_simulator import Modality
from tests.network import instance, running_node, uid
from tests.peers import free_port

RULES = [{"name": "mr", "model": "m", "match": {"modality": ["MR"]}}]


def _images(folder: Path, study: str, count: int, begun: datetime, **attributes: Any) -> list[Path]:
    common = {
        "StudyDate": f"{begun:%Y%m%d}",
        "StudyTime": f"{begun:%H%M%S}",
        "AccessionNumber": f"A-{study}",
        "PatientID": f"P-{study}",
        "StudyID": "1",
        "SeriesNumber": 1,
    }
    return [instance(folder, n, study=study, InstanceNumber=n + 1, **{**common, **attributes}) for n in range(count)]


def _destination(port: int) -> dict[str, Any]:
    return {"pacs": {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port, "commitment": False}}


@pytest.mark.parametrize(
    ("archive", "method"), [(dcmqrscp_archive, "move"), (dcmqrscp_archive, "get"), (orthanc_archive, "get")]
)
def test_node_off_for_three_hours_then_reconciled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: Any, method: str
) -> None:
    node_port = free_port()
    now = datetime.now()
    with (
        archive(tmp_path, node_port) as port,
        open_ward(
            tmp_path,
            monkeypatch,
            rules=RULES,
            receive={"port": node_port},
            destination=_destination(port),
            reconcile={"archive": "pacs", "method": method, "settle_seconds": 60, "fetch": True},
        ) as ward,
    ):
        to_archive = Modality("127.0.0.1", port, called_ae_title="ARCHIVE")
        # Before it went off one study came whole, and of another the first half.
        here = _images(tmp_path / "i", "here", 3, now - timedelta(hours=1))
        half = _images(tmp_path / "i", "half", 4, now - timedelta(hours=0.5))
        ward.modality().store([*here, *half[:2]])
        ward.settle()
        ward.clock.offset += 3 * 3600
        # Meanwhile the archive went on. STAT was ordered for the one that came last.
        routine = _images(tmp_path / "i", "routine", 2, now + timedelta(hours=1))
        stat = _images(tmp_path / "i", "stat", 2, now + timedelta(hours=2))
        old = _images(tmp_path / "i", "old", 1, now - timedelta(days=3))
        to_archive.store([*here, *half, *routine, *stat, *old])
        with ward.node.store.write() as connection:
            order = Order(study_uid=uid("stat"), accession_number="A-stat", patient_id="P-stat", priority="STAT")
            orders.take(connection, time.time(), "ris", [order])
        _reconciled_and_fetched(ward, method)


def _reconciled_and_fetched(ward: Ward, method: str) -> None:
    reconciler = Reconciler(ward.node.settings, ward.node.store)
    told = reconciler.reconcile("pacs", time.time() - 3 * 3600, fetch=True)
    found = [(each.study.study_uid, each.verdict.finding) for each in told.found]
    assert found == [(uid(name), Finding.MISSING) for name in ("stat", "half", "routine")]
    assert told.found[0].verdict.words == "the archive has 2 image(s) in 1 series, this node has none of them"
    assert told.found[1].verdict.words == "the archive has 4 image(s) in 1 series, this node has 2 of them"
    assert (told.listed, told.wanted, told.truncated) == (4, 4, 0)
    fetcher = StudyFetcher(ward.node.settings, ward.node.store)
    fetched = []
    while (one := fetcher.fetch_next("reconcile")) is not None:
        fetched.append(one)
    assert [each.study_uid for each in fetched] == [uid("stat"), uid("half"), uid("routine")]
    assert {(each.state, each.method, each.failed) for each in fetched} == {("done", method, 0)}
    ward.settle()
    for name, runs in (("stat", 1), ("half", 2), ("routine", 1), ("here", 1)):
        assert len(ward.runs(name)) == runs
        ward.check(name)
    assert ward.runs("stat")[0].priority == 0
    # Nothing is wrong any more, and the story of each says what was.
    assert [each for each in reconciler.reconcile("pacs", time.time() - 3 * 3600, fetch=True).found] == []
    assert fetcher.fetch_next("reconcile") is None
    story = ward.story("stat")
    assert "held against pacs: MISSING" in story and "this node has none of them" in story
    assert f"fetched from pacs for reconcile by {method}: 2 image(s)" in story
    assert "nothing is wrong any more" in story


def test_late_and_unanswered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pacs = TestPacs(tmp_path / "pacs", ae_title="ARCHIVE")
    begun = datetime.now() - timedelta(hours=2)
    with (
        pacs.running() as (_, port),
        open_ward(tmp_path, monkeypatch, rules=RULES, destination=_destination(port)) as ward,
    ):
        files = _images(tmp_path / "i", "s", 2, begun)
        Modality("127.0.0.1", port, called_ae_title="ARCHIVE").store(files)
        ward.modality().store(files)
        reconciler = Reconciler(ward.node.settings, ward.node.store)

        def found() -> list[tuple[str, str]]:
            told = reconciler.reconcile("pacs", time.time() - 6 * 3600, fetch=False)
            return [(str(each.verdict.finding), each.verdict.words) for each in told.found]

        assert found() == []
        ward.clock.offset += 3600
        assert found() == [("late", "no image for 60 min, and it still waits to be complete")]
        ward.settle()
        assert found() == []
        with ward.node.store.write() as connection:
            connection.execute(tables.jobs.update().values(state="queued"))
        ward.clock.offset += 1800
        ((finding, words),) = found()
        assert finding == "late" and "is queued" in words
        with ward.node.store.write() as connection:
            connection.execute(tables.jobs.update().values(state="dead", error_code="JOB-003"))
        ((finding, words),) = found()
        assert finding == "unanswered" and words.endswith("is dead and nobody was told: JOB-003")
        _answered_but_not_listed(ward, found)


def _answered_but_not_listed(ward: Ward, found: Any) -> None:
    (job,) = ward.runs("s")
    with ward.node.store.write() as connection:
        connection.execute(
            tables.objects.insert().values(
                sop_instance_uid="1.2.3.4",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
                series_uid="1.2.3",
                study_uid=uid("s"),
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                job_id=job.id,
                role="seg",
                profile="default",
                path="x",
                digest="",
                size=1,
                frozen_at=time.time(),
            )
        )
        row = {"sop_instance_uid": "1.2.3.4", "destination": "pacs", "state": "stored", "priority": 2}
        connection.execute(
            tables.deliveries.insert().values(**row, created_at=time.time(), sent_at=time.time(), attempts=1)
        )
    ((finding, words),) = found()
    assert finding == "unanswered" and "pacs took 1 series of the answer" in words and "does not list" in words
    assert len(ward.node.ledger("study.reconciled")) == 4


def test_watch_fetches_what_rules_want_and_survives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node_port = free_port()
    begun = datetime.now() - timedelta(minutes=20)
    sections = {
        "rules": RULES,
        "receive": {"port": node_port},
        "watch": {"pacs": {"settle_seconds": 60, "modalities": ["MR"], "method": "move", "jitter_seconds": 0}},
    }
    with dcmqrscp_archive(tmp_path, node_port) as port:
        archive = Modality("127.0.0.1", port, called_ae_title="ARCHIVE")
        files = _images(tmp_path / "i", "s", 4, begun)
        with open_ward(tmp_path, monkeypatch, destination=_destination(port), **sections) as ward:
            outside = Outside(ward.node.settings, ward.node.store)
            archive.store([*files[:2], *_images(tmp_path / "i", "ct", 1, begun, Modality="CT")])
            # It may still grow.
            assert outside.watch("pacs") == 0
            ward.clock.offset += 61
            assert outside.watch("pacs") == 1
        # Whatever was queued is fetched after a restart, and what was seen is remembered.
        clock = ward.clock
        with open_ward(tmp_path, monkeypatch, clock=clock, destination=_destination(port), **sections) as ward:
            outside = Outside(ward.node.settings, ward.node.store)
            assert outside.fetch_studies() == 1
            ward.settle()
            assert [len(run.specification["files"]) for run in ward.runs("s")] == [2]
            assert outside.watch("pacs") == 0 and outside.fetch_studies() == 0
            archive.store(files[2:])
            assert outside.watch("pacs") == 0
            clock.offset += 61
            outside.watch("pacs")
            assert outside.fetch_studies() == 1
            ward.settle()
            assert [len(run.specification["files"]) for run in ward.runs("s")] == [2, 4]
            assert {row.study_uid for row in ward.node.rows(tables.studies)} == {uid("s")}
            assert "seen at pacs: 2 image(s) in 1 series; it sends none" in ward.story("s")
            ward.check("s")


@pytest.fixture
def utc_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in UTC whatever this one is in; the site's zone is taken back afterwards."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc_server")
def test_utc_server_in_a_jst_hospital_around_midnight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 00:30 in Japan it is still yesterday in UTC: the studies of today must be asked for all the same."""
    at = datetime(2026, 2, 10, 15, 30, tzinfo=UTC).timestamp()
    monkeypatch.setattr(time, "time", lambda: at)
    pacs = TestPacs(tmp_path / "pacs", ae_title="ARCHIVE")
    with pacs.running() as (_, port), running_node(tmp_path, destination=_destination(port), rule=RULES) as node:
        site_time.adopt("Asia/Tokyo")
        try:
            assert datetime.fromtimestamp(at) == datetime(2026, 2, 11, 0, 30)
            files = [
                *_images(tmp_path / "i", "before", 1, datetime(2026, 2, 10, 23, 50)),
                *_images(tmp_path / "i", "after", 1, datetime(2026, 2, 11, 0, 10)),
                *_images(tmp_path / "i", "noon", 1, datetime(2026, 2, 10, 12, 0)),
            ]
            Modality("127.0.0.1", port, called_ae_title="ARCHIVE").store(files)
            told = Reconciler(node.settings, node.store).reconcile("pacs", site_time.since("1h", at), fetch=False)
            assert [each.study.study_uid for each in told.found] == [uid("before"), uid("after")]
            assert told.found[1].study.starts_at == at - 20 * 60
            assert site_time.since("2026-02-11", at) == at - 30 * 60
        finally:
            os.environ["TZ"] = "UTC"


def test_backfill_goes_on_where_it_stopped(tmp_path: Path) -> None:
    node_port = free_port()
    days = [datetime.now() - timedelta(days=days) for days in (20, 10, 9, 1)]
    config = tmp_path / "node.toml"
    with (
        dcmqrscp_archive(tmp_path, node_port) as port,
        running_node(tmp_path, receive={"port": node_port}, destination=_destination(port), rule=RULES) as node,
    ):
        config.write_text(
            f'[node]\ndata_dir = "{tmp_path / "data"}"\n[receive]\nport = {node_port}\ndisk_reserve_bytes = 0\n'
            f'[reconcile]\narchive = "pacs"\nmethod = "move"\n[destination.pacs]\nae_title = "ARCHIVE"\n'
            f'host = "127.0.0.1"\nport = {port}\n[[rule]]\nname = "mr"\nmodel = "m"\n[rule.match]\nmodality = ["MR"]\n'
        )
        for number, day in enumerate(days):
            Modality("127.0.0.1", port, called_ae_title="ARCHIVE").store(_images(tmp_path / "i", f"s{number}", 1, day))
        words = ["--config", str(config), "backfill", "--since", "12d", "--until", "2d", "--json"]

        def backfill(*more: str) -> dict[str, Any]:
            done = CliRunner().invoke(app, [*words, *more])
            assert done.exit_code == 0, done.output
            return dict(json.loads(done.stdout))

        first = backfill("--limit", "1")
        assert (first["queued"], first["fetched"], first["images"], first["waiting"]) == (2, 1, 1, 1)
        second = backfill()
        assert (second["queued"], second["fetched"], second["waiting"]) == (0, 1, 0)
        assert backfill()["fetched"] == 0
        assert {row.study_uid for row in node.rows(tables.studies)} == {uid("s1"), uid("s2")}
        with node.store.read() as connection:
            assert archive_studies.is_backfilled(connection, uid("s1"))
            assert not archive_studies.is_backfilled(connection, uid("s3"))
        done = CliRunner().invoke(app, ["--config", str(config), "reconcile", "--since", "12d", "--fetch", "--json"])
        told = json.loads(done.stdout)
        (found,) = told["findings"]
        assert (found["study_uid"], found["finding"], found["fetched"]) == (uid("s3"), "missing", "1 image(s) by move")
        assert (told["listed"], told["wanted"], told["whole"]) == (3, 3, True)
        shown = CliRunner().invoke(app, ["--config", str(config), "reconcile", "--since", "1h"])
        assert shown.stdout.endswith("everything is here and answered\n") and "P-s" not in done.stdout
        wrong = CliRunner().invoke(app, ["--config", str(config), "reconcile", "--since", "1h", "--destination", "x"])
        assert "there is no [destination.x]" in str(wrong.exception)
