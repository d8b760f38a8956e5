"""What never came, or came to a server in another time zone: asked of real archives, and put into the table."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from node import site_time
from node.archive import orders
from node.dicom.pacs import TestPacs
from node.dicom.reconciliation import Reconciler
from node.dicom.study_fetch import StudyFetcher
from node.listed import Finding
from node.orders import Order
from tests.archive_peers import archive_destination, dated_images, dcmqrscp_archive, orthanc_archive
from tests.arrival.ward import Ward, open_ward
from tests.chaos.durability_page import Findings
from tests.modality_simulator import Modality
from tests.network import running_node, uid
from tests.peers import free_port

RULES = [{"name": "mr", "model": "m", "match": {"modality": ["MR"]}}]
TABLE = "Asked of the archive"
COLUMNS = ("scenario", "what was found", "what followed", "runs")


@pytest.mark.parametrize(
    ("archive", "method"), [(dcmqrscp_archive, "move"), (dcmqrscp_archive, "get"), (orthanc_archive, "get")]
)
def test_node_off_for_three_hours_then_reconciled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: Any, method: str, findings: Findings
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
            destination=archive_destination(port),
            reconcile={"archive": "pacs", "method": method, "settle_seconds": 60, "fetch": True},
        ) as ward,
    ):
        to_archive = Modality("127.0.0.1", port, called_ae_title="ARCHIVE")
        # Before it went off one study came whole, and of another the first half.
        here = dated_images(tmp_path / "i", "here", 3, now - timedelta(hours=1))
        half = dated_images(tmp_path / "i", "half", 4, now - timedelta(hours=0.5))
        ward.modality().store([*here, *half[:2]])
        ward.settle()
        ward.clock.offset += 3 * 3600
        # Meanwhile the archive went on. STAT was ordered for the one that came last.
        routine = dated_images(tmp_path / "i", "routine", 2, now + timedelta(hours=1))
        stat = dated_images(tmp_path / "i", "stat", 2, now + timedelta(hours=2))
        old = dated_images(tmp_path / "i", "old", 1, now - timedelta(days=3))
        to_archive.store([*here, *half, *routine, *stat, *old])
        with ward.node.store.write() as connection:
            order = Order(study_uid=uid("stat"), accession_number="A-stat", patient_id="P-stat", priority="STAT")
            orders.take(connection, time.time(), "ris", [order])
        seconds = _reconciled_and_fetched(ward, method)
    peer = "Orthanc" if archive is orthanc_archive else "dcmqrscp"
    findings.add(
        TABLE,
        COLUMNS,
        f"node off for three hours under traffic, then reconciled ({peer}, C-{method.upper()})",
        "3 studies missing, one of them half here",
        f"STAT first; all of them fetched and decided {seconds:.1f} s after the question",
        "1, 2, 1",
    )


def _reconciled_and_fetched(ward: Ward, method: str) -> float:
    asked = time.monotonic()
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
    seconds = time.monotonic() - asked
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
    return seconds


@pytest.fixture
def utc_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in UTC whatever this one is in; the site's zone is taken back afterwards."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc_server")
def test_utc_server_in_a_jst_hospital_around_midnight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, findings: Findings
) -> None:
    """At 00:30 in Japan it is still yesterday in UTC: the studies of today must be asked for all the same."""
    at = datetime(2026, 2, 10, 15, 30, tzinfo=UTC).timestamp()
    monkeypatch.setattr(time, "time", lambda: at)
    pacs = TestPacs(tmp_path / "pacs", ae_title="ARCHIVE")
    with pacs.running() as (_, port), running_node(tmp_path, destination=archive_destination(port), rule=RULES) as node:
        site_time.adopt("Asia/Tokyo")
        try:
            assert datetime.fromtimestamp(at) == datetime(2026, 2, 11, 0, 30)
            files = [
                *dated_images(tmp_path / "i", "before", 1, datetime(2026, 2, 10, 23, 50)),
                *dated_images(tmp_path / "i", "after", 1, datetime(2026, 2, 11, 0, 10)),
                *dated_images(tmp_path / "i", "noon", 1, datetime(2026, 2, 10, 12, 0)),
            ]
            Modality("127.0.0.1", port, called_ae_title="ARCHIVE").store(files)
            told = Reconciler(node.settings, node.store).reconcile("pacs", site_time.since("1h", at), fetch=False)
            assert [each.study.study_uid for each in told.found] == [uid("before"), uid("after")]
            assert told.found[1].study.starts_at == at - 20 * 60
            assert site_time.since("2026-02-11", at) == at - 30 * 60
        finally:
            os.environ["TZ"] = "UTC"
    findings.add(
        TABLE,
        COLUMNS,
        "UTC server in a JST hospital, half an hour after midnight",
        "the studies of 23:50 and 00:10, not the one of noon",
        "dates are asked by the site's wall clock",
        "",
    )
