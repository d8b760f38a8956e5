"""Mode ``association``: acknowledged at once, synced before anybody can see it, indexed by one writer."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from sqlalchemy import select

from node.archive import batch_writer, group_commit, index, tables
from node.archive.engine import Store
from node.archive.entry import Opened, enter
from node.archive.index import Arrival, Recorded
from node.archive.spool import Spool
from node.dicom import filing
from node.dicom.association import ClientAssociation
from node.dicom.storage_scu import Sent, read_object_file, send_object, send_paths
from node.errors import ObjectRejected
from tests.integration.test_store_index import header
from tests.network import instance, running_node, wait_for

pytest_plugins = ["tests.store_fixtures"]

ASSOCIATION = {"mode": "association"}


@pytest.mark.usefixtures("lane")
def test_synced_before_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [instance(tmp_path / "in", number) for number in range(30)]
    seen_at_sync: list[tuple[set[str], set[str]]] = []
    real = Spool.sync
    with running_node(tmp_path, receive=ASSOCIATION) as node:

        def sync(self: Spool, relatives: Iterable[str]) -> None:
            paths = set(relatives)
            seen_at_sync.append((paths, {row.path for row in node.rows(tables.instances)}))
            real(self, paths)

        monkeypatch.setattr(Spool, "sync", sync)
        assert send_paths(node.peer(), files).complete
        assert len(node.files()) == 30
        wait_for(lambda: node.ledger("association.closed"), "the association's end")
        # The end is recorded after everything it brought.
        (association,) = node.rows(tables.associations)
        assert (association.ending, association.instances) == ("released", 30)
        rows = {row.path for row in node.rows(tables.instances)}
        assert {str(path.relative_to(node.spool.root)) for path in node.files()} == rows
        assert not any(paths & seen for paths, seen in seen_at_sync)
        assert set().union(*(paths for paths, _ in seen_at_sync)) == rows
        assert len(seen_at_sync) < 30
        assert node.rows(tables.ledger)[0].kind == "association.opened"


def test_a_pause_does_not_keep_an_instance_unseen(tmp_path: Path) -> None:
    file = read_object_file(instance(tmp_path / "in"))
    with running_node(tmp_path, receive=ASSOCIATION) as node, ClientAssociation(node.peer(), [file.proposal]) as open_:
        send_object(open_, file)
        wait_for(lambda: node.rows(tables.instances), "the row, with the association still open", seconds=3)


def test_a_locked_store_delays_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The association has long ended when its rows can be written; its end is recorded behind them.
    monkeypatch.setattr(filing, "_SETTLE_SECONDS", 0.1)
    files = [instance(tmp_path / "in", number) for number in range(5)]
    with running_node(tmp_path, receive=ASSOCIATION, store={"busy_timeout_seconds": 0.2}) as node:
        other = sqlite3.connect(node.settings.data_dir / "node.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert send_paths(node.peer(), files).complete
        time.sleep(0.5)
        assert node.rows(tables.instances) == []
        other.execute("ROLLBACK")
        other.close()
        wait_for(lambda: node.ledger("association.closed"), "the association's end")
        assert len(node.rows(tables.instances)) == 5
        (association,) = node.rows(tables.associations)
        assert (association.ending, association.instances) == ("released", 5)


def test_too_many_waiting_are_told_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_writer, "_WAITING", 2)
    monkeypatch.setattr(batch_writer, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(batch_writer, "_GATHER_SECONDS", 5.0)
    files = [instance(tmp_path / "in", number) for number in range(5)]
    with running_node(tmp_path, receive=ASSOCIATION) as node:
        summary = send_paths(node.peer(), files)
        outcomes = [report.outcome for report in summary.reports]
        assert outcomes[:3] == [Sent.STORED] * 3
        assert Sent.STORED not in outcomes[3:]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_receiver_without_its_writer_gives_no_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ended the writer: the receiver is started anew, and finds in the spool what has no row."""

    def broken(*_: object) -> list[Recorded]:
        raise TypeError("a defect")

    with running_node(tmp_path, receive=ASSOCIATION) as node:
        assert node.receiver.accepting()
        monkeypatch.setattr(batch_writer, "enter", broken)
        assert send_paths(node.peer(), [instance(tmp_path / "in")]).complete
        wait_for(lambda: not node.receiver.accepting(), "silence")


def test_a_file_that_cannot_be_synced_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [instance(tmp_path / "in", number) for number in range(4)]
    broken = read_object_file(files[2]).sop_instance_uid
    real = Spool.sync

    def sync(self: Spool, relatives: Iterable[str]) -> None:
        paths = list(relatives)
        if any(broken in path for path in paths):
            raise OSError(5, "Input/output error")
        real(self, paths)

    monkeypatch.setattr(Spool, "sync", sync)
    with running_node(tmp_path, receive=ASSOCIATION) as node:
        assert send_paths(node.peer(), files).complete
        wait_for(lambda: node.ledger("association.closed"), "the association's end")
        assert len(node.rows(tables.instances)) == 3
        assert broken not in {row.sop_instance_uid for row in node.rows(tables.instances)}


def test_stopping_writes_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_writer, "_GATHER_SECONDS", 30.0)
    files = [instance(tmp_path / "in", number) for number in range(3)]
    with running_node(tmp_path, receive=ASSOCIATION) as node:
        assert send_paths(node.peer(), files).complete
        node.receiver.stop(0.2)
        assert len(node.rows(tables.instances)) == 3


def _facts(store: Store) -> dict[str, list[tuple[object, ...]]]:
    with store.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(*columns).order_by(columns[0]))]
            for table, columns in (
                (tables.instances, [column for column in tables.instances.c if column.name != "id"]),
                (tables.studies, [column for column in tables.studies.c if column.name != "due_at"]),
                (tables.ledger, [column for column in tables.ledger.c if column.name != "id"]),
            )
        }


def test_several_at_once_are_the_same_as_one_by_one(store: Store) -> None:
    arrivals = [
        Arrival(
            at=100.0 + number,
            header=header(sop_instance_uid=f"1.2.{uid}", study_uid=f"1.9.{study}", patient_id=patient),
            path=f"{number}.dcm",
            digest=digest,
            size=number,
            association_id=association,
            calling_ae_title="A" * 20,
            called_ae_title="B",
        )
        for number, (uid, study, patient, digest, association) in enumerate(
            [
                (1, 1, "", "d1", "x"),
                (2, 1, "P", "d2", "x"),
                (1, 1, "P", "d1", "y"),
                (1, 1, "Q", "d3", "x"),
                (3, 2, "P", "d4", "y"),
                (4, 1, "P", "d5", "x"),
                (4, 1, "P", "d5", "x"),
                (5, 2, "P", "d6", "x"),
            ]
        )
    ]
    with store.write() as connection:
        kinds = [
            index.record_instance(
                connection,
                arrival.at,
                **{name: getattr(arrival, name) for name in Arrival.__slots__ if name != "at"},
            )
            for arrival in arrivals
        ]
    one_by_one = _facts(store)
    with store.write() as connection:
        for table in (tables.instances, tables.studies, tables.ledger):
            connection.execute(table.delete())
    with store.write() as connection:
        assert index.record_instances(connection, arrivals[:2]) == kinds[:2]
        assert index.record_instances(connection, arrivals[2:]) == kinds[2:]
    assert _facts(store) == one_by_one
    with store.write() as connection:
        for table in (tables.instances, tables.studies, tables.ledger):
            connection.execute(table.delete())
    # The first two are new and take the short way on SQLite.
    enter(store, arrivals[:2], [])
    enter(store, arrivals[2:], [])
    assert _facts(store) == one_by_one


def test_several_associations_share_a_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []

    def slowly(store: Store, arrivals: list[Arrival], opened: list[Opened]) -> list[Recorded]:
        groups.append(len(arrivals))
        time.sleep(0.1)
        return enter(store, arrivals, opened)

    monkeypatch.setattr(group_commit, "enter", slowly)
    commits = group_commit.GroupCommit(store)
    refused: list[str] = []

    def add(number: int) -> None:
        # One of them is no UID: it fails alone.
        sop = "not a UID" if number == 5 else f"1.2.{number}"
        made = Arrival(
            at=100.0,
            header=header(sop_instance_uid=sop),
            path=f"{number}.dcm",
            digest=f"d{number}",
            size=1,
            association_id=str(number),
            calling_ae_title="A",
            called_ae_title="B",
        )
        try:
            commits.add(made, Opened(str(number), "A", "B", "127.0.0.1", 99.0))
        except ObjectRejected:
            refused.append(sop)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert refused == ["not a UID"]
    with store.read() as connection:
        assert len(connection.execute(select(tables.instances)).all()) == 7
        assert len(connection.execute(select(tables.associations)).all()) == 7
    assert max(groups) > 1, "each had a commit of its own"
