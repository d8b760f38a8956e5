"""Frozen objects, deliveries and proofs, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from node.archive import tables
from node.archive.engine import Store
from node.delivery import outbox, outbox_files
from node.delivery.outbox import DeliveryState
from node.errors import FrozenObjectDiffers, LeaseLost, NotStored, SpoolDamaged, UsageError
from node.jobs import queue
from node.jobs.specification import WrittenObject
from tests.integration.test_store_queue import add, take

pytest_plugins = ["tests.store_fixtures"]


def written(uid: str = "2.25.1", **values: Any) -> WrittenObject:
    facts = {
        "role": "seg",
        "profile": "default",
        "path": Path(f"aa/1.2.3/{uid}.dcm"),
        "sop_instance_uid": uid,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
        "series_uid": "2.25.9",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "digest": "d" * 64,
        "size": 100,
    }
    return WrittenObject.model_validate({**facts, **values})


def freeze(connection: Connection, objects: list[WrittenObject], now: float = 100.0, **values: Any) -> list[int]:
    job_id = values.pop("job_id", None) or _job(connection)
    facts = {"study_uid": "1.2.3", "destinations": {"default": ["PACS"]}, "priority": 2}
    return outbox.freeze(connection, now, job_id=job_id, objects=objects, **{**facts, **values})


def _job(connection: Connection) -> int:
    if jobs := queue.list_jobs(connection):
        return int(jobs[0].id)
    job_id = add(connection)
    assert job_id is not None
    return job_id


def _send(connection: Connection, now: float = 100.0, destination: str = "PACS", limit: int = 10) -> list[int]:
    """Claim and store everything due."""
    ids = [delivery.id for delivery in outbox.claim(connection, now, destination, limit)]
    for delivery_id in ids:
        outbox.stored(connection, now, delivery_id, 0)
    return ids


def states(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(select(tables.deliveries.c.state).order_by(tables.deliveries.c.id)).scalars())


def test_objects_and_deliveries_come_with_the_end_of_the_job(store: Store) -> None:
    with store.write() as connection:
        job_id = add(connection)
        assert job_id is not None
        take(connection)
        destinations = {"default": ["PACS", "ARCHIVE"], "text": ["RIS"]}
        objects = [written("2.25.1"), written("2.25.2", role="text-en", profile="text")]
        ids = freeze(connection, objects, job_id=job_id, destinations=destinations)
        queue.finish(connection, 100.0, job_id, "d1", result={})
    assert len(ids) == 3
    with store.read() as connection:
        rows = outbox.list_deliveries(connection, study_uid="1.2.3")
        assert {(row.sop_instance_uid, row.destination, row.state) for row in rows} == {
            ("2.25.1", "PACS", "queued"),
            ("2.25.1", "ARCHIVE", "queued"),
            ("2.25.2", "RIS", "queued"),
        }
        assert [row.role for row in outbox.list_objects(connection, job_id=job_id)] == ["seg", "text-en"]


def test_a_dispatcher_that_lost_its_lease_freezes_nothing(store: Store) -> None:
    with store.write() as connection:
        job_id = add(connection)
        assert job_id is not None
        take(connection, owner="slow")
        queue.sweep(connection, 1000.0)
    with pytest.raises(LeaseLost), store.write() as connection:
        freeze(connection, [written()], job_id=job_id)
        queue.finish(connection, 1000.0, job_id, "slow", result={})
    with store.read() as connection:
        assert outbox.list_objects(connection, job_id=job_id) == []
        assert outbox.list_deliveries(connection) == []


def test_one_uid_never_has_two_contents(store: Store) -> None:
    with store.write() as connection:
        freeze(connection, [written()])
    with store.write() as connection:
        assert freeze(connection, [written()]) == []
    with pytest.raises(FrozenObjectDiffers), store.write() as connection:
        freeze(connection, [written("2.25.7"), written(digest="e" * 64)])
    with store.read() as connection:
        kept = connection.execute(select(tables.objects.c.sop_instance_uid, tables.objects.c.digest)).all()
        frozen = select(func.count()).where(tables.ledger.c.kind == "object.frozen")
        assert connection.execute(frozen).scalar_one() == 1
    assert [tuple(row) for row in kept] == [("2.25.1", "d" * 64)]


def test_a_shadow_freezes_and_sends_nothing(store: Store) -> None:
    with store.write() as connection:
        assert freeze(connection, [written()], destinations={}) == []
        assert outbox.next_due(connection, "PACS") is None


def test_claiming_orders_and_counts(store: Store) -> None:
    with store.write() as connection:
        freeze(connection, [written("2.25.1"), written("2.25.2")], priority=2)
        freeze(connection, [written("2.25.3")], priority=0)
        freeze(connection, [written("2.25.4")], priority=0, destinations={"default": ["OTHER"]})
        assert outbox.next_due(connection, "PACS") == 100.0
        first = outbox.claim(connection, 100.0, "PACS", 2)
        assert [delivery.sop_instance_uid for delivery in first] == ["2.25.3", "2.25.1"]
        assert (first[0].attempt, first[0].path, first[0].digest) == (1, "aa/1.2.3/2.25.3.dcm", "d" * 64)
        assert [delivery.sop_instance_uid for delivery in outbox.claim(connection, 100.0, "PACS", 9)] == ["2.25.2"]
        assert outbox.claim(connection, 100.0, "PACS", 9) == []


def test_two_claimers_share_no_delivery(store: Store) -> None:
    with store.write() as connection:
        freeze(connection, [written(f"2.25.{number}") for number in range(30)])
    claimed: list[int] = []

    def claim() -> None:
        while True:
            with store.write() as connection:
                found = outbox.claim(connection, 100.0, "PACS", 2)
            if not found:
                return
            claimed.extend(delivery.id for delivery in found)

    threads = [threading.Thread(target=claim) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 30 == len(set(claimed))


def test_what_a_dead_sender_left_is_unknown_and_sent_again(store: Store) -> None:
    with store.write() as connection:
        freeze(connection, [written("2.25.1"), written("2.25.2")])
        outbox.claim(connection, 100.0, "PACS", 1)
    with store.write() as connection:
        assert len(outbox.recover(connection, 200.0, "PACS")) == 1
        assert outbox.recover(connection, 200.0, "PACS") == []
    assert states(store) == ["unknown", "queued"]
    with store.write() as connection:
        again = outbox.claim(connection, 200.0, "PACS", 5)
        assert [(delivery.sop_instance_uid, delivery.attempt) for delivery in again] == [("2.25.1", 2), ("2.25.2", 1)]


def test_no_answer_waits_and_is_sent_again(store: Store) -> None:
    with store.write() as connection:
        freeze(connection, [written()])
        (delivery,) = outbox.claim(connection, 100.0, "PACS", 1)
        outbox.unknown(connection, 101.0, delivery.id, "no response", not_before=110.0)
        assert outbox.claim(connection, 109.0, "PACS", 1) == []
        assert outbox.next_due(connection, "PACS") == 110.0
        assert len(outbox.claim(connection, 110.0, "PACS", 1)) == 1
        outbox.stored(connection, 111.0, delivery.id, 0)
        outbox.unknown(connection, 112.0, delivery.id, "too late", not_before=0.0)
    assert states(store) == ["stored"]


def test_failures(store: Store) -> None:
    facts: dict[str, Any] = {"status": 0xA700, "message": "out of resources", "not_before": 110.0}
    with store.write() as connection:
        freeze(connection, [written("2.25.1"), written("2.25.2")])
        first, second = outbox.claim(connection, 100.0, "PACS", 2)
        failed = outbox.failed(connection, 101.0, first.id, transient=True, maximum_attempts=2, **facts)
        assert failed is DeliveryState.FAILED
        assert outbox.failed(connection, 101.0, second.id, transient=False, **facts) is DeliveryState.DEAD
        assert outbox.claim(connection, 109.0, "PACS", 5) == []
        (again,) = outbox.claim(connection, 110.0, "PACS", 5)
        dead = outbox.failed(connection, 111.0, again.id, transient=True, maximum_attempts=2, **facts)
        assert dead is DeliveryState.DEAD
        assert outbox.claim(connection, 1e9, "PACS", 5) == []
        row = outbox.get(connection, first.id)
        assert row is not None
        assert (row.status, row.message, row.attempts) == (0xA700, "out of resources", 2)


def _stored(connection: Connection, count: int = 2) -> list[int]:
    freeze(connection, [written(f"2.25.{number}") for number in range(1, count + 1)])
    return _send(connection)


def _ask(connection: Connection, ids: list[int], transaction: str = "2.25.100", due_at: float = 400.0) -> None:
    outbox.open_commitment(connection, 102.0, transaction, "PACS", ids, due_at)


def test_commitment(store: Store) -> None:
    with store.write() as connection:
        ids = _stored(connection)
        assert [each.delivery.id for each in outbox.awaiting_proof(connection, 102.0, "PACS", 5)] == ids
        _ask(connection, ids)
        assert outbox.awaiting_proof(connection, 102.0, "PACS", 5) == []
        answer = outbox.resolve_commitment(connection, 103.0, "2.25.100", {"2.25.1", "2.25.2"}, {})
        assert (answer.known, set(answer.committed), answer.failed) == (True, {"2.25.1", "2.25.2"}, ())
        again = outbox.resolve_commitment(connection, 104.0, "2.25.100", {"2.25.1", "2.25.2"}, {})
        assert (again.known, again.committed, again.failed) == (True, (), ())
        assert outbox.expire_commitments(connection, 1e9) == []
        row = outbox.get(connection, ids[0])
        assert row is not None
        assert row.proven_at == 103.0
    assert states(store) == ["committed", "committed"]


def test_an_answer_to_nothing_changes_nothing(store: Store) -> None:
    with store.write() as connection:
        _stored(connection)
        assert not outbox.resolve_commitment(connection, 103.0, "2.25.999", {"2.25.1"}, {"2.25.2": 0x0112}).known
    assert states(store) == ["stored", "stored"]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [(0x0112, "failed"), (0x0110, "failed"), (0x0213, "failed"), (0x0122, "dead"), (0x0119, "dead")],
)
def test_an_object_not_committed_to_is_sent_again_where_that_may_help(store: Store, reason: int, expected: str) -> None:
    with store.write() as connection:
        ids = _stored(connection)
        _ask(connection, ids)
        answer = outbox.resolve_commitment(connection, 103.0, "2.25.100", {"2.25.1"}, {"2.25.2": reason})
        assert (answer.committed, answer.failed) == (("2.25.1",), ("2.25.2",))
        repeated = outbox.resolve_commitment(connection, 104.0, "2.25.100", {"2.25.1"}, {"2.25.2": reason})
        assert (repeated.committed, repeated.failed) == ((), ())
    assert states(store) == ["committed", expected]
    with store.write() as connection:
        claimed = outbox.claim(connection, 163.0, "PACS", 5)
        assert [delivery.sop_instance_uid for delivery in claimed] == (["2.25.2"] if expected == "failed" else [])


def test_a_destination_that_never_commits_is_given_up(store: Store) -> None:
    with store.write() as connection:
        freeze(connection, [written()])
        now = 100.0
        for attempt in (1, 2, 3):
            (delivery_id,) = _send(connection, now)
            _ask(connection, [delivery_id], transaction=f"2.25.10{attempt}")
            outbox.resolve_commitment(
                connection, now, f"2.25.10{attempt}", (), {"2.25.1": 0x0112}, retry_seconds=1.0, maximum_attempts=3
            )
            now += 1
        assert outbox.claim(connection, 1e9, "PACS", 5) == []
    assert states(store) == ["dead"]


def test_an_overdue_answer_is_asked_for_again_and_still_counts_when_it_comes(store: Store) -> None:
    with store.write() as connection:
        ids = _stored(connection)
        _ask(connection, ids, due_at=400.0)
        assert outbox.expire_commitments(connection, 399.0) == []
        assert outbox.expire_commitments(connection, 401.0) == ["2.25.100"]
        assert outbox.expire_commitments(connection, 402.0) == []
        assert [each.asked for each in outbox.awaiting_proof(connection, 402.0, "PACS", 5)] == [1, 1]
        _ask(connection, ids, transaction="2.25.101", due_at=800.0)
        # The late failure is about a request that was asked anew; the late proof is proof.
        answer = outbox.resolve_commitment(connection, 500.0, "2.25.100", {"2.25.1"}, {"2.25.2": 0x0112})
        assert (answer.known, answer.committed, answer.failed) == (True, ("2.25.1",), ())
        outbox.resolve_commitment(connection, 501.0, "2.25.101", {"2.25.1", "2.25.2"}, {})
    assert states(store) == ["committed", "committed"]


def test_a_commitment_of_another_destination_proves_nothing_here(store: Store) -> None:
    with store.write() as connection:
        freeze(connection, [written()], destinations={"default": ["PACS", "OTHER"]})
        _send(connection)
        ids = _send(connection, destination="OTHER")
        outbox.open_commitment(connection, 102.0, "2.25.100", "OTHER", ids, 400.0)
        outbox.resolve_commitment(connection, 103.0, "2.25.100", {"2.25.1"}, {})
    assert states(store) == ["stored", "committed"]


def test_replay_of_one(store: Store) -> None:
    with store.write() as connection:
        ids = _stored(connection)
        _ask(connection, ids)
        outbox.resolve_commitment(connection, 103.0, "2.25.100", {"2.25.1"}, {})
        assert outbox.replay(connection, 200.0, delivery_id=ids[0]) == [ids[0]]
        # The old answer again does not prove what is being sent anew.
        outbox.resolve_commitment(connection, 201.0, "2.25.100", {"2.25.1"}, {})
        (delivery,) = outbox.claim(connection, 200.0, "PACS", 5)
        assert (delivery.id, delivery.attempt) == (ids[0], 1)
        with pytest.raises(UsageError):
            outbox.replay(connection, 202.0, delivery_id=ids[0])
        with pytest.raises(NotStored):
            outbox.replay(connection, 202.0, delivery_id=999)
        with pytest.raises(UsageError):
            outbox.replay(connection, 202.0)


def test_replay_of_a_destination_takes_what_did_not_arrive(store: Store) -> None:
    with store.write() as connection:
        freeze(connection, [written(f"2.25.{number}") for number in range(1, 5)])
        facts: dict[str, Any] = {"status": None, "message": "x", "not_before": 1e9}
        dead, failed, unknown, fine = (delivery.id for delivery in outbox.claim(connection, 100.0, "PACS", 4))
        outbox.failed(connection, 101.0, dead, transient=False, **facts)
        outbox.failed(connection, 101.0, failed, transient=True, **facts)
        outbox.unknown(connection, 101.0, unknown, "x", not_before=1e9)
        outbox.stored(connection, 101.0, fine, 0)
        assert outbox.replay(connection, 200.0, destination="PACS") == [dead, failed, unknown]
        assert outbox.replay(connection, 200.0, destination="OTHER") == []
    assert states(store) == ["queued", "queued", "queued", "stored"]


def _object_file(folder: Path, content: bytes = b"content") -> WrittenObject:
    path = folder / "seg-2.25.1.dcm"
    path.write_bytes(content)
    return written(path=path, digest=outbox_files.file_digest(path), size=len(content))


def test_placing_is_repeatable_and_never_replaces(tmp_path: Path) -> None:
    root = tmp_path / "outbox"
    made = _object_file(tmp_path)
    first = outbox_files.place(root, made, study_uid="1.2.3")
    assert (root / first.path).read_bytes() == b"content"
    assert not first.path.is_absolute()
    assert not made.path.exists()
    assert outbox_files.place(root, made, study_uid="1.2.3") == first  # moved before, frozen not yet
    assert outbox_files.place(root, _object_file(tmp_path), study_uid="1.2.3") == first  # rendered again
    other = outbox_files.place(root, _object_file(tmp_path, b"other"), study_uid="1.2.3")
    assert other.path != first.path
    assert (root / first.path).read_bytes() == b"content"


def test_a_file_that_is_not_what_was_checked_is_not_placed(tmp_path: Path) -> None:
    made = _object_file(tmp_path)
    made.path.write_bytes(b"changed")
    with pytest.raises(SpoolDamaged):
        outbox_files.place(tmp_path / "outbox", made, study_uid="1.2.3")
    made.path.unlink()
    with pytest.raises(SpoolDamaged):
        outbox_files.place(tmp_path / "outbox", made, study_uid="1.2.3")
