"""Instances, studies, associations and the rescan, on SQLite and PostgreSQL."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select

from node.archive import index, tables
from node.archive.engine import Store
from node.archive.headers import InstanceHeader, read_header
from node.archive.index import Ending, Recorded, StudyState
from node.archive.spool import Spool, dataset_digest
from node.errors import ObjectRejected
from tests.store_instances import dataset, spool_files, stored

pytest_plugins = ["tests.store_fixtures"]


def header(**values: Any) -> InstanceHeader:
    facts = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
        "sop_instance_uid": "1.2.3.4.5",
        "study_uid": "1.2.3",
        "series_uid": "1.2.3.4",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "modality": "MR",
        "patient_id": "P1",
        "accession_number": "A1",
        "routing": {"modality": "MR", "b_value": 1000.0},
    }
    return InstanceHeader(**{**facts, **values})  # type: ignore[arg-type]


def record(
    connection: Connection, now: float = 100.0, *, digest: str = "d1", association: str | None = None, **values: Any
) -> Recorded:
    return index.record_instance(
        connection,
        now,
        header=header(**values),
        path=f"00/1.2.3/{digest}.dcm",
        digest=digest,
        size=10,
        association_id=association,
        calling_ae_title="SCANNER",
        called_ae_title="AINODE",
    )


def _kinds(connection: Connection) -> list[str]:
    return list(connection.execute(select(tables.ledger.c.kind).order_by(tables.ledger.c.id)).scalars())


def test_new_duplicate_conflict(store: Store) -> None:
    with store.write() as connection:
        assert record(connection) is Recorded.NEW
        assert record(connection) is Recorded.DUPLICATE
        assert record(connection, digest="d2") is Recorded.CONFLICT
        assert record(connection, digest="d2") is Recorded.DUPLICATE
    with store.read() as connection:
        assert [row.digest for row in index.copies_of_study(connection, "1.2.3")] == ["d1", "d2"]
        row = index.instances_of_study(connection, "1.2.3")[0]
        assert (row.digest, row.headers["b_value"], row.calling_ae_title) == ("d1", 1000.0, "SCANNER")
        assert _kinds(connection) == [
            "instance.received",
            "instance.duplicate",
            "instance.conflict",
            "instance.duplicate",
        ]


@pytest.mark.parametrize("changed", [{"patient_id": "P2"}, {"accession_number": "A2"}, {"patient_name": "X"}])
def test_a_copy_with_another_identity_is_worked_with(store: Store, changed: dict[str, str]) -> None:
    with store.write() as connection:
        record(connection)
        record(connection, digest="d2")  # other pixels, say: the first stays
        record(connection, digest="d3", **changed)
    with store.read() as connection:
        assert [row.digest for row in index.instances_of_study(connection, "1.2.3")] == ["d3"]
        assert len(index.copies_of_study(connection, "1.2.3")) == 3


def test_the_same_instance_under_another_study_is_kept_in_both_and_counts_in_one(store: Store) -> None:
    with store.write() as connection:
        assert record(connection) is Recorded.NEW
        assert record(connection, digest="d2", study_uid="1.2.9") is Recorded.CORRECTED
    with store.read() as connection:
        assert len(index.copies_of_study(connection, "1.2.3")) == 1
        assert index.instances_of_study(connection, "1.2.3") == []
        assert len(index.instances_of_study(connection, "1.2.9")) == 1


def test_what_is_no_uid_is_not_entered(store: Store) -> None:
    for name in ("sop_instance_uid", "study_uid", "series_uid", "sop_class_uid", "transfer_syntax_uid"):
        for value in ("", "1" * 65, "x"):
            with pytest.raises(ObjectRejected), store.write() as connection:
                record(connection, **{name: value})
    with store.read() as connection:
        assert index.list_studies(connection) == []


def test_over_long_text_is_no_obstacle(store: Store) -> None:
    with store.write() as connection:
        record(connection, modality="M" * 40, patient_name="山" * 500, accession_number="A" * 100)
    with store.read() as connection:
        assert index.instances_of_study(connection, "1.2.3")[0].modality == "M" * 16


def _freeze(connection: Connection, sop: str) -> None:
    job = connection.execute(
        insert(tables.jobs)
        .values(
            study_uid="1.2.3",
            rule="r",
            model_id="m",
            input_key="k",
            priority=0,
            state="done",
            maximum_attempts=1,
            created_at=0.0,
            specification={},
        )
        .returning(tables.jobs.c.id)
    ).scalar_one()
    connection.execute(
        insert(tables.objects).values(
            sop_instance_uid=sop,
            sop_class_uid="1.2",
            series_uid="1.3",
            study_uid="1.2.3",
            transfer_syntax_uid="1.2",
            job_id=job,
            role="seg",
            profile="default",
            path="x",
            digest="d",
            size=1,
            frozen_at=0.0,
        )
    )


def test_our_own_objects_coming_back_wake_nothing(store: Store) -> None:
    with store.write() as connection:
        _freeze(connection, "2.25.1")
        assert record(connection, sop_instance_uid="2.25.1", modality="SEG") is Recorded.NEW
        assert index.study(connection, "1.2.3") is None
        assert index.instances_of_study(connection, "1.2.3") == []
        assert index.copies_of_study(connection, "1.2.3")[0].ours


def test_news_make_a_study_due(store: Store) -> None:
    with store.write() as connection:
        record(connection, 100.0)
        (row,) = index.studies_to_evaluate(connection, 100.0)
        assert (row.state, row.first_at, row.last_at, row.accession_number) == (StudyState.WAITING, 100.0, 100.0, "A1")
        index.record_evaluation(connection, 100.0, "1.2.3", state=StudyState.WAITING, due_at=120.0, arrival={"n": 1})
        assert index.studies_to_evaluate(connection, 119.0) == []
        assert len(index.studies_to_evaluate(connection, 120.0)) == 1
        record(connection, 105.0, digest="d2", sop_instance_uid="1.2.3.4.6")
        (row,) = index.studies_to_evaluate(connection, 105.0)
        assert (row.first_at, row.last_at, row.arrival) == (100.0, 105.0, {"n": 1})
        index.record_evaluation(connection, 130.0, "1.2.3", state=StudyState.COMPLETE, due_at=None, arrival={})
        assert index.studies_to_evaluate(connection, 1e9) == []


def test_news_during_an_evaluation_are_not_lost(store: Store) -> None:
    """The evaluation of an older view must not overwrite what came meanwhile."""
    with store.write() as connection:
        record(connection, 100.0)
    evaluating, arrived = threading.Event(), threading.Event()

    def arrive() -> None:
        evaluating.wait(10)
        with store.write() as connection:
            record(connection, 99.0, digest="d2", sop_instance_uid="1.2.3.4.6")  # a clock a little behind
        arrived.set()

    thread = threading.Thread(target=arrive)
    thread.start()
    with store.write() as connection:
        assert len(index.studies_to_evaluate(connection, 100.0)) == 1
        evaluating.set()
        arrived.wait(0.5)  # cannot happen before this transaction ends
        index.record_evaluation(connection, 100.0, "1.2.3", state=StudyState.COMPLETE, due_at=None, arrival={})
    thread.join(20)
    with store.write() as connection:
        assert len(index.studies_to_evaluate(connection, 100.0)) == 1


def test_the_end_of_an_association_wakes_its_studies(store: Store) -> None:
    with store.write() as connection:
        facts = {"calling_ae_title": "SCANNER", "called_ae_title": "AINODE", "address": "127.0.0.1"}
        index.open_association(connection, 99.0, association_id="a1", **facts)
        record(connection, 100.0, association="a1")
        record(connection, 100.0, association="a1", digest="d2", study_uid="1.2.9", sop_instance_uid="1.2.9.1")
        for uid in ("1.2.3", "1.2.9"):
            index.record_evaluation(connection, 101.0, uid, state=StudyState.WAITING, due_at=900.0, arrival={})
        assert [row.id for row in index.open_associations(connection)] == ["a1"]
        assert index.close_association(connection, 102.0, "a1", ending=Ending.ABORTED) == ["1.2.3", "1.2.9"]
        assert len(index.studies_to_evaluate(connection, 102.0)) == 2
        assert index.close_association(connection, 103.0, "a1", ending=Ending.LOST) == []
        (row,) = index.associations_of_study(connection, "1.2.9")
        assert (row.closed_at, row.ending, row.instances) == (102.0, "aborted", 2)
        assert index.open_associations(connection) == []


def test_hold_and_release(store: Store) -> None:
    with store.write() as connection:
        record(connection)
        index.record_evaluation(connection, 1.0, "1.2.3", state=StudyState.COMPLETE, due_at=None, arrival={})
        assert index.hold_study(connection, 2.0, "1.2.3", reason="two patients")
        assert not index.hold_study(connection, 3.0, "1.2.3", reason="two patients")
        assert len(index.list_studies(connection, held=True)) == 1
        assert index.release_study(connection, 4.0, "1.2.3")
        assert not index.release_study(connection, 5.0, "1.2.3")
        assert len(index.studies_to_evaluate(connection, 4.0)) == 1
        assert _kinds(connection)[-2:] == ["study.held", "study.released"]


def test_copies_arriving_at_once_are_told_apart(store: Store) -> None:
    found: list[Recorded] = []

    def arrive(digest: str) -> None:
        with store.write() as connection:
            found.append(record(connection, digest=digest))

    threads = [threading.Thread(target=arrive, args=(f"d{number % 4}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [Recorded.CONFLICT] * 3 + [Recorded.DUPLICATE] * 8 + [Recorded.NEW]


def _index_all(store: Store, spool: Spool) -> None:
    for number, relative in enumerate(spool_files(spool)):
        path = spool.absolute(relative)
        with store.write() as connection:
            index.record_instance(
                connection,
                1000.0 + number,
                header=read_header(path),
                path=relative,
                digest=dataset_digest(path),
                size=path.stat().st_size,
                association_id=None,
                calling_ae_title="SCANNER",
                called_ae_title="AINODE",
            )


_COLUMNS = [
    column
    for column in tables.instances.c
    # The file's time stands for the time of arrival.
    if column.name not in ("id", "received_at", "corrected_at", "superseded_at")
]


def _contents(store: Store) -> list[tuple[Any, ...]]:
    with store.read() as connection:
        rows = connection.execute(select(*_COLUMNS).order_by(tables.instances.c.path))
        return [tuple(row) for row in rows]


def test_a_rescan_rebuilds_the_index(store: Store, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 0)
    for number in range(5):
        stored(spool, dataset(sop=f"1.2.3.4.{number}"))
    stored(spool, dataset(sop="1.2.3.4.0", PatientID="P2"))
    stored(spool, dataset(study="1.2.9", series="1.2.9.1", sop="1.2.9.1.1"))
    _index_all(store, spool)
    before = _contents(store)
    assert len(before) == 7
    with store.write() as connection:
        connection.execute(delete(tables.instances))
        connection.execute(delete(tables.studies))
    report = index.rescan(store, spool)
    assert (report.seen, report.indexed, report.damaged, report.missing) == (7, 7, [], [])
    assert _contents(store) == before
    with store.write() as connection:
        assert {row.study_uid for row in index.studies_to_evaluate(connection, 1e12)} == {"1.2.3", "1.2.9"}
        assert index.instances_of_study(connection, "1.2.3")[0].patient_id == "P2"
    again = index.rescan(store, spool)
    assert (again.seen, again.indexed) == (7, 0)


def test_a_rescan_knows_the_nodes_own_results_by_the_outbox(store: Store, tmp_path: Path) -> None:
    """The database is lost and an archive had sent results back: they are no images that came late."""
    spool, outbox = Spool(tmp_path / "spool", 0), tmp_path / "outbox"
    stored(spool, dataset(sop="1.2.3.4.1"))
    stored(spool, dataset(sop="2.25.77"))
    stored(spool, dataset(study="1.2.9", series="1.2.9.1", sop="2.25.78"))
    for study, uid in (("1.2.3", "2.25.77"), ("1.2.9", "2.25.78")):
        (outbox / "aa" / study).mkdir(parents=True)
        (outbox / "aa" / study / f"{uid}-0123456789ab.dcm").touch()
    assert index.rescan(store, spool, outbox=outbox).indexed == 3
    with store.read() as connection:
        assert [row.sop_instance_uid for row in index.instances_of_study(connection, "1.2.3")] == ["1.2.3.4.1"]
        assert index.study(connection, "1.2.9") is None


def test_a_rescan_finds_what_a_crash_left_out_of_the_index(store: Store, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 0)
    stored(spool, dataset())
    _index_all(store, spool)
    left_out = stored(spool, dataset(sop="1.2.3.4.6"))
    assert index.rescan(store, spool).indexed == 1
    with store.read() as connection:
        assert left_out in {row.path for row in index.instances_of_study(connection, "1.2.3")}


def test_what_a_rescan_takes_up_is_on_the_disk_first(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver in mode "association" may have died between the file and its sync."""
    spool = Spool(tmp_path / "spool", 0)
    left = [stored(spool, dataset(sop=f"1.2.3.4.{number}")) for number in range(3)]
    synced: list[str] = []
    real = Spool.sync

    def sync(self: Spool, relatives: Collection[str]) -> None:
        assert not _contents(store)
        if left[1] in relatives:
            raise OSError(errno.EIO, "Input/output error")
        synced.extend(relatives)
        real(self, relatives)

    monkeypatch.setattr(Spool, "sync", sync)
    report = index.rescan(store, spool)
    assert (report.indexed, report.unsynced) == (2, [left[1]])
    assert sorted(synced) == sorted([left[0], left[2]])


def test_a_rescan_looks_only_at_files_that_it_does_not_know(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", 0)
    for number in range(4):
        stored(spool, dataset(sop=f"1.2.3.4.{number}"))
    _index_all(store, spool)
    left_out = stored(spool, dataset(sop="1.2.3.4.9"))
    looked_at: list[str] = []
    real = Spool.absolute

    def absolute(self: Spool, relative: str) -> Path:
        looked_at.append(relative)
        return real(self, relative)

    monkeypatch.setattr(Spool, "absolute", absolute)
    assert index.rescan(store, spool, look_for_missing=False).indexed == 1
    assert set(looked_at) == {left_out}


def test_an_instance_that_a_rescan_found_first_still_gets_its_association(store: Store) -> None:
    with store.write() as connection:
        assert record(connection) is Recorded.NEW
        assert record(connection, association="a1") is Recorded.DUPLICATE
        assert record(connection, association="a2") is Recorded.DUPLICATE
        assert [row.association_id for row in index.copies_of_study(connection, "1.2.3")] == ["a1"]


def test_a_rescan_reports_damage_and_loss(store: Store, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 0)
    kept, torn, gone = (stored(spool, dataset(sop=f"1.2.3.4.{number}")) for number in range(3))
    _index_all(store, spool)
    spool.absolute(gone).unlink()
    rubbish = spool.absolute(kept).with_name("1.2.3.4.9-000000000000.dcm")
    rubbish.write_bytes(b"rubbish")
    with store.write() as connection:
        connection.execute(delete(tables.instances).where(tables.instances.c.path == torn))
    os.truncate(spool.absolute(torn), spool.absolute(torn).stat().st_size - 4)
    report = index.rescan(store, spool)
    assert sorted(report.damaged) == sorted([torn, str(rubbish.relative_to(spool.root))])
    assert report.missing == [gone]
    assert report.indexed == 0
