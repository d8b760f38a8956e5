"""What real archives have, held against what is here and answered; the watch on an archive that cannot route."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from node.archive import archive_studies, tables
from node.cli import app
from node.dicom.association import ClientAssociation, Peer
from node.dicom.outside import Outside
from node.dicom.pacs import TestPacs
from node.dicom.query import FIND_PROPOSAL
from node.dicom.reconciliation import Reconciler
from node.dicom.study_query import studies_between
from tests.archive_peers import archive_destination, dated_images, dcmqrscp_archive
from tests.arrival.ward import Ward, open_ward
from tests.modality_simulator import Modality
from tests.network import running_node, uid, wait_for
from tests.node_process import NodeProcess
from tests.peers import free_port

RULES = [{"name": "mr", "model": "m", "match": {"modality": ["MR"]}}]


def test_late_and_unanswered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pacs = TestPacs(tmp_path / "pacs", ae_title="ARCHIVE")
    begun = datetime.now() - timedelta(hours=2)
    with (
        pacs.running() as (_, port),
        open_ward(tmp_path, monkeypatch, rules=RULES, destination=archive_destination(port)) as ward,
    ):
        files = dated_images(tmp_path / "i", "s", 2, begun)
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
        files = dated_images(tmp_path / "i", "s", 4, begun)
        with open_ward(tmp_path, monkeypatch, destination=archive_destination(port), **sections) as ward:
            outside = Outside(ward.node.settings, ward.node.store)
            archive.store([*files[:2], *dated_images(tmp_path / "i", "ct", 1, begun, Modality="CT")])
            # It may still grow.
            assert outside.watch("pacs") == 0
            ward.clock.offset += 61
            assert outside.watch("pacs") == 1
        # Whatever was queued is fetched after a restart, and what was seen is remembered.
        clock = ward.clock
        with open_ward(tmp_path, monkeypatch, clock=clock, destination=archive_destination(port), **sections) as ward:
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


def test_backfill_goes_on_where_it_stopped(tmp_path: Path) -> None:
    node_port = free_port()
    days = [datetime.now() - timedelta(days=days) for days in (20, 10, 9, 1)]
    config = tmp_path / "node.toml"
    with (
        dcmqrscp_archive(tmp_path, node_port) as port,
        running_node(tmp_path, receive={"port": node_port}, destination=archive_destination(port), rule=RULES) as node,
    ):
        config.write_text(
            f'[node]\ndata_dir = "{tmp_path / "data"}"\n[receive]\nport = {node_port}\ndisk_reserve_bytes = 0\n'
            f'[reconcile]\narchive = "pacs"\nmethod = "move"\n[destination.pacs]\nae_title = "ARCHIVE"\n'
            f'host = "127.0.0.1"\nport = {port}\n[[rule]]\nname = "mr"\nmodel = "m"\n[rule.match]\nmodality = ["MR"]\n'
        )
        for number, day in enumerate(days):
            Modality("127.0.0.1", port, called_ae_title="ARCHIVE").store(
                dated_images(tmp_path / "i", f"s{number}", 1, day)
            )
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


def test_a_busy_day_comes_in_parts(tmp_path: Path) -> None:
    day = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    with (
        dcmqrscp_archive(tmp_path, free_port()) as port,
        running_node(tmp_path, destination=archive_destination(port)) as node,
    ):
        spread = [day + timedelta(hours=2 * number, minutes=number) for number in range(12)]
        at_once = [day + timedelta(hours=5)] * 4
        files = [
            file
            for number, begun in enumerate([*spread, *at_once])
            for file in dated_images(tmp_path / "i", f"b{number}", 1, begun)
        ]
        Modality("127.0.0.1", port, called_ae_title="ARCHIVE").store(files)
        peer = Peer.of(node.settings.destination["pacs"], "AINODE")
        with ClientAssociation(peer, [FIND_PROPOSAL]) as association:
            whole = studies_between(association, day, day, limit=4)
            assert (len(whole.studies), whole.truncated) == (16, 0)
            less = studies_between(association, day, day, limit=2)
            assert (len(less.studies), less.truncated) == (14, 1)
            assert [each.starts_at for each in whole.studies] == sorted(each.starts_at or 0.0 for each in whole.studies)
            assert {each.study_uid: each.accession_number for each in whole.studies}[uid("b0")] == "A-b0"


@pytest.mark.slow
def test_the_node_watches_and_reconciles_by_the_clock(tmp_path: Path) -> None:
    begun = datetime.now() - timedelta(minutes=30)
    node = NodeProcess(
        tmp_path / "node",
        {},
        rules='[[rule]]\nname = "mr"\nmodel = "infarct-adc-baseline"\n[rule.match]\nmodality = ["MR"]\n',
    )
    with dcmqrscp_archive(tmp_path, node.port) as port:
        archive = Modality("127.0.0.1", port, called_ae_title="ARCHIVE")
        archive.store(dated_images(tmp_path / "i", "before", 2, begun - timedelta(hours=6)))
        node.extra = (
            f'[destination.pacs]\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {port}\n'
            '[reconcile]\narchive = "pacs"\nfetch = true\nsettle_seconds = 1.0\nmethod = "get"\n'
            "[watch.pacs]\ninterval_seconds = 1.0\njitter_seconds = 0.2\nsettle_seconds = 1.0\nhours_back = 2.0\n"
            'method = "move"\n'
        )
        node.start()
        try:
            wait_for(partial(_is_complete, node, "before"), "the study of before", seconds=120)
            assert "for reconcile by get: 2" in _story(node, "before")
            archive.store(dated_images(tmp_path / "i", "new", 2, begun))
            wait_for(partial(_is_complete, node, "new"), "the study that is new", seconds=120)
            assert "for watch by move: 2" in _story(node, "new")
        finally:
            node.stop()


def _story(node: NodeProcess, study: str) -> str:
    return str(node.cli("why", f"A-{study}").stdout)


def _is_complete(node: NodeProcess, study: str) -> bool:
    decided = "SELECT 1 FROM ledger WHERE kind = 'arrival.decided' AND study_uid = ?"
    return bool(node.rows(decided, uid(study))) and "study complete" in _story(node, study)
