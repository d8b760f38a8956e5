"""What is known of a delivery beyond the answer to C-STORE: doubt that is asked about, proof by query, none; and its end."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import select, update

from node.archive import tables
from node.archive.engine import Store
from node.archive.spool import dataset_digest
from node.delivery import delivered, outbox
from node.dicom.pacs import TestPacs
from node.dicom.verify_peer import RESULT_CLASSES
from node.errors import UsageError
from node.settings import Settings
from tests.integration.test_send import deliver, destination, outbox_of, states
from tests.network import LABEL_MAP_SEG, instance, running_sender, tool_server, uid, wait_for
from tests.peers import free_port

SEG = RESULT_CLASSES[0]


def rows(store: Store, *conditions: Any) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(select(tables.deliveries).where(*conditions).order_by(tables.deliveries.c.id)))


def kinds(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(select(tables.ledger.c.kind).order_by(tables.ledger.c.id)).scalars())


def proofs(store: Store) -> list[str | None]:
    return [row.proof for row in rows(store)]


def test_without_commitment_it_is_looked_for(tmp_path: Path) -> None:
    pacs = TestPacs(tmp_path / "pacs")
    with (
        pacs.running() as (_, port),
        outbox_of(tmp_path, {"pacs": destination(port)}) as (settings, store),
        running_sender(settings, store),
    ):
        deliver(settings, store, [instance(tmp_path / "in", number) for number in range(3)])
        wait_for(lambda: proofs(store) == ["query"] * 3, "three found by query")
        assert states(store) == ["stored"] * 3
        assert kinds(store).count("delivery.verified") == 3


@pytest.mark.peer
@pytest.mark.parametrize("commitment", [True, False])
def test_a_destination_that_offers_neither_is_said_to_be_unverifiable(tmp_path: Path, commitment: bool) -> None:
    port = free_port()
    (tmp_path / "out").mkdir()
    with (
        tool_server("storescp", "-od", tmp_path / "out", port, port=port),
        outbox_of(tmp_path, {"pacs": destination(port, commitment=commitment)}) as (settings, store),
        running_sender(settings, store),
    ):
        deliver(settings, store, [instance(tmp_path / "in")])
        wait_for(lambda: proofs(store) == ["unverifiable"], "the end of hope")
        (row,) = rows(store)
        assert (row.state, "neither commitment nor query" in row.message) == ("stored", True)
        # Its local copy stays for good.
        assert delivered.remove_delivered(store, settings.data_dir / "outbox", time.time() + 1e9, keep_days=1) == 0


class _Mute(TestPacs):
    """Takes commitment requests and answers none."""

    def _answer(self, association: Any, request: Any) -> None:
        return


def test_a_destination_that_never_answers_is_looked_into(tmp_path: Path) -> None:
    pacs = _Mute(tmp_path / "pacs")
    facts = {"commitment": True, "commitment_timeout_seconds": 0.3, "commitment_attempts": 1}
    with (
        pacs.running() as (_, port),
        outbox_of(tmp_path, {"pacs": destination(port, **facts)}) as (settings, store),
        running_sender(settings, store),
    ):
        deliver(settings, store, [instance(tmp_path / "in")])
        wait_for(lambda: proofs(store) == ["query"], "the query", seconds=20)
        assert "commitment.expired" in kinds(store)


class _Liar(TestPacs):
    """Answers success and keeps nothing, the first time."""

    lies = True

    def _on_store(self, event: Any) -> int:
        return 0x0000 if self.lies else super()._on_store(event)


def test_success_without_an_object_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.delivery.proofs._LOOK_AGAIN_SECONDS", (0.1, 0.1))
    pacs = _Liar(tmp_path / "pacs")
    with (
        pacs.running() as (_, port),
        outbox_of(tmp_path, {"pacs": destination(port)}) as (settings, store),
        running_sender(settings, store),
    ):
        deliver(settings, store, [instance(tmp_path / "in")])
        wait_for(lambda: "delivery.failed" in kinds(store), "the discovery")
        pacs.lies = False
        wait_for(lambda: proofs(store) == ["query"], "the truth")
        assert len(pacs.objects) == 1


class _LosesAnswers(TestPacs):
    """Stores, and loses the answer to the first C-STORE."""

    stored = 0

    def _on_store(self, event: Any) -> int:
        self.stored += 1
        status = super()._on_store(event)
        if self.stored == 1:
            event.assoc.abort(block=False)
        return status


def test_what_had_no_answer_is_asked_for_and_not_sent_twice(tmp_path: Path) -> None:
    pacs = _LosesAnswers(tmp_path / "pacs")
    with (
        pacs.running() as (_, port),
        outbox_of(tmp_path, {"pacs": destination(port)}) as (settings, store),
        running_sender(settings, store),
    ):
        deliver(settings, store, [instance(tmp_path / "in")])
        wait_for(lambda: proofs(store) == ["query"], "the object")
        assert pacs.stored == 1
        assert {"delivery.unknown", "delivery.found"} <= set(kinds(store))


@pytest.mark.peer
def test_a_peer_that_takes_implicit_only_gets_the_same_object(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "out").mkdir()
    file = instance(tmp_path / "in", sop_class=SEG, PatientName="Müller^J", SpecificCharacterSet="ISO_IR 192")
    with (
        tool_server("storescp", "+xi", "-od", tmp_path / "out", port, port=port),
        outbox_of(tmp_path, {"pacs": destination(port)}) as (settings, store),
        running_sender(settings, store),
    ):
        deliver(settings, store, [file])
        wait_for(lambda: states(store) == ["stored"], "the object")
        (row,) = rows(store)
        assert row.sent_syntax_uid == "1.2.840.10008.1.2"
        with store.read() as connection:
            chosen = tables.ledger.c.kind == "delivery.stored"
            (detail,) = connection.execute(select(tables.ledger.c.detail).where(chosen)).scalars()
    (kept,) = (tmp_path / "out").iterdir()
    there = dcmread(kept)
    assert there == dcmread(file)
    assert there.file_meta.TransferSyntaxUID == row.sent_syntax_uid
    assert detail["sent_digest"] == dataset_digest(kept)


@pytest.mark.peer
def test_a_class_that_is_refused_is_dead_with_its_reason_and_its_neighbour_arrives(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "out").mkdir()
    files = [instance(tmp_path / "in", 1, sop_class=LABEL_MAP_SEG), instance(tmp_path / "in", 2)]
    with (
        tool_server("storescp", "-od", tmp_path / "out", port, port=port),
        outbox_of(tmp_path, {"pacs": destination(port)}) as (settings, store),
        running_sender(settings, store),
    ):
        deliver(settings, store, files)
        wait_for(lambda: states(store) == ["dead", "stored"], "both ends")
        dead = rows(store, tables.deliveries.c.state == "dead")
        assert "no context for 1.2.840.10008.5.1.4.1.1.66.7" in dead[0].message


class _AbortsAfterThree(TestPacs):
    """Ends every association in the middle of its fourth object."""

    def _on_store(self, event: Any) -> int:
        count = getattr(event.assoc, "objects_stored", 0)
        if count == 3:
            event.assoc.abort(block=False)
            return 0xC000
        event.assoc.objects_stored = count + 1
        return super()._on_store(event)


def test_a_peer_that_aborts_after_three_gets_all(tmp_path: Path) -> None:
    pacs = _AbortsAfterThree(tmp_path / "pacs")
    quick = {"breaker_failures": 100}
    with (
        pacs.running() as (_, port),
        outbox_of(tmp_path, {"pacs": destination(port)}, delivery=quick) as (settings, store),
        running_sender(settings, store),
    ):
        files = [instance(tmp_path / "in", number) for number in range(10)]
        deliver(settings, store, files)
        wait_for(lambda: states(store) == ["stored"] * 10, "all ten", seconds=20)
        assert {dataset_digest(path) for path in pacs.objects.values()} == set(map(dataset_digest, files))
        assert pacs.conflicts == []


def test_several_associations_share_the_work(tmp_path: Path) -> None:
    pacs = TestPacs(tmp_path / "pacs")
    with (
        pacs.running() as (_, port),
        outbox_of(tmp_path, {"pacs": destination(port, associations=3)}) as (settings, store),
        running_sender(settings, store),
    ):
        deliver(settings, store, [instance(tmp_path / "in", number) for number in range(60)])
        wait_for(lambda: proofs(store) == ["query"] * 60, "all sixty", seconds=30)
        assert {row.attempts for row in rows(store)} == {1}
        assert len(pacs.objects) == 60


def test_a_warning_is_kept(tmp_path: Path) -> None:
    class Coercing(TestPacs):
        def _on_store(self, event: Any) -> int:
            return super()._on_store(event) or 0xB000

    pacs = Coercing(tmp_path / "pacs")
    with (
        pacs.running() as (_, port),
        outbox_of(tmp_path, {"pacs": destination(port, commitment=True)}) as (settings, store),
        running_sender(settings, store),
    ):
        deliver(settings, store, [instance(tmp_path / "in")])
        wait_for(lambda: states(store) == ["committed"], "the proof")
        (row,) = rows(store)
        assert (row.status, row.message) == (0xB000, "stored with coerced attributes")


class _Clock:
    """The scheduler's clock, set by hand; nothing in the protocol knows of it."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_down_for_an_hour_by_plan_and_then_stat_first(tmp_path: Path) -> None:
    import threading

    from node.delivery.sender import Sender

    port, order = free_port(), []

    class Recording(TestPacs):
        def _on_store(self, event: Any) -> int:
            order.append(str(event.request.AffectedSOPInstanceUID))
            return super()._on_store(event)

    clock = _Clock(time.mktime((2026, 11, 24, 2, 10, 0, 0, 0, -1)))
    facts = {"downtime": ["02:00-03:00"], "catch_up_per_minute": 30}
    stop = threading.Event()
    with outbox_of(tmp_path, {"pacs": destination(port, **facts)}) as (settings, store):
        routine = [instance(tmp_path / "in", number) for number in range(6)]
        deliver(settings, store, routine, job="routine")
        deliver(settings, store, [instance(tmp_path / "in", "stat")], job="stat")
        with store.write() as connection:
            connection.execute(
                update(tables.deliveries)
                .where(tables.deliveries.c.sop_instance_uid == uid("s", "instance", "stat"))
                .values(priority=0)
            )
            connection.execute(update(tables.deliveries).values(not_before=0.0))
        sender = Sender(settings, store, clock=clock)
        thread = threading.Thread(target=sender.run, args=(stop,), daemon=True)
        thread.start()
        try:
            time.sleep(0.5)
            # Nothing listens there, and nothing was tried: no attempt, no breaker, no failure in the ledger.
            assert {row.attempts for row in rows(store)} == {0}
            assert set(kinds(store)) == {"object.frozen"}
            with Recording(tmp_path / "pacs", port=port).running():
                clock.now += 3000.0
                sender.wake()
                wait_for(lambda: len(order) >= 4, "the first after the downtime")
                time.sleep(0.3)
                # STAT at once; of the rest no more than the burst of 30 a minute.
                assert order[0] == uid("s", "instance", "stat")
                assert len(order) == 4
                for _ in range(3):
                    clock.now += 2.0
                    sender.wake()
                    wait_for(lambda seen=len(order): len(order) > seen, "one more")
                wait_for(lambda: states(store) == ["stored"] * 7, "everything")
        finally:
            stop.set()
            sender.wake()
            thread.join(20)


def test_replay_by_date_and_the_end_of_a_local_copy(tmp_path: Path) -> None:
    pacs = TestPacs(tmp_path / "pacs")
    with pacs.running() as (_, port), outbox_of(tmp_path, {"pacs": destination(port)}) as (settings, store):
        deliver(settings, store, [instance(tmp_path / "in", number) for number in range(2)])
        first, second = rows(store)
        with store.write() as connection:
            dead = update(tables.deliveries).values(state="dead")
            connection.execute(dead)
            connection.execute(
                update(tables.deliveries).where(tables.deliveries.c.id == second.id).values(created_at=100.0)
            )
        with store.write() as connection:
            assert outbox.replay(connection, time.time(), since=50.0, until=200.0) == [second.id]
            with pytest.raises(UsageError):
                outbox.replay(connection, time.time(), delivery_id=first.id, since=50.0)
            assert outbox.replay(connection, time.time(), since=200.0, destination="pacs") == [first.id]
        with running_sender(settings, store):
            wait_for(lambda: proofs(store) == ["query"] * 2, "both")
        _check_retention(settings, store, first.id)


def _check_retention(settings: Settings, store: Store, delivery_id: int) -> None:
    folder = settings.data_dir / "outbox"
    files = sorted(folder.glob("*/*.dcm"))
    now = time.time() + 10 * 86400
    assert delivered.remove_delivered(store, folder, now, keep_days=0) == 0
    assert delivered.remove_delivered(store, folder, now, keep_days=20) == 0
    with store.write() as connection:
        # One of both is unproven again, and may be needed.
        connection.execute(update(tables.deliveries).where(tables.deliveries.c.id != delivery_id).values(proof=None))
    assert delivered.remove_delivered(store, folder, now, keep_days=5) == 1
    assert len(sorted(folder.glob("*/*.dcm"))) == len(files) - 1
    assert "object.removed" in kinds(store)
    with store.write() as connection, pytest.raises(UsageError, match="local copy"):
        outbox.replay(connection, time.time(), delivery_id=delivery_id)


def test_frozen_bytes_are_the_truth(tmp_path: Path) -> None:
    """What arrives is, to the byte, what was frozen."""
    pacs = TestPacs(tmp_path / "pacs")
    with (
        pacs.running() as (_, port),
        outbox_of(tmp_path, {"pacs": destination(port)}) as (settings, store),
        running_sender(settings, store),
    ):
        file = instance(tmp_path / "in", pixels=bytes(range(256)) * 4000)
        deliver(settings, store, [file])
        wait_for(lambda: states(store) == ["stored"], "the object")
        (kept,) = pacs.objects.values()
        assert dataset_digest(kept) == dataset_digest(file)
        with store.read() as connection:
            digest = connection.execute(select(tables.objects.c.digest)).scalar_one()
        assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
