"""What a correction does to copies, runs and deliveries, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, exc, select, text, update

from node.archive import copies, index, migration, tables
from node.archive.engine import Store, make_engine, open_store, upgrade
from node.archive.index import Recorded
from node.archive.instance_index import Arrival
from node.correction import outdated_deliveries, take_back
from node.delivery import outbox
from node.errors import LeaseLost
from node.jobs import queue
from node.settings import Settings
from tests.integration.test_store_index import header, record
from tests.integration.test_store_outbox import freeze, written
from tests.integration.test_store_queue import add, take

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.store_fixtures"]

STUDY = "1.2.3"


def _corrected(connection: Connection, now: float = 200.0) -> list[int]:
    return take_back(connection, now, study_uid=STUDY, path="a", changed=["patient_id"])


def _states(store: Store) -> list[tuple[str, str | None]]:
    with store.read() as connection:
        columns = select(tables.deliveries.c.state, tables.deliveries.c.outdated).order_by(tables.deliveries.c.id)
        return [tuple(row) for row in connection.execute(columns)]


def _active(store: Store) -> list[tuple[str, str]]:
    with store.read() as connection:
        columns = select(tables.instances.c.study_uid, tables.instances.c.digest)
        return [tuple(row) for row in connection.execute(columns.where(tables.instances.c.active.is_(True)))]


def test_the_result_of_a_superseded_run_is_not_frozen(store: Store) -> None:
    with store.write() as connection:
        add(connection)
        job = take(connection)
        assert job is not None and _corrected(connection) == [job.id]
    with pytest.raises(LeaseLost), store.write() as connection:
        queue.finish(connection, 201.0, job.id, "d1", result={})
        freeze(connection, [written()], job_id=job.id)
    with store.read() as connection:
        assert outbox.list_deliveries(connection) == []
    with store.write() as connection:
        assert not queue.heartbeat(connection, 201.0, job.id, "d1", lease_seconds=9)
        assert take(connection, 999.0) is None


def test_a_run_that_did_not_take_the_corrected_image_stands(store: Store) -> None:
    with store.write() as connection:
        add(connection, specification={"files": ["b"]})
        assert _corrected(connection) == []
        assert take(connection) is not None


def _queued(connection: Connection) -> None:
    pass


def _failed(connection: Connection) -> None:
    outbox.claim(connection, 100.0, "PACS", 10)
    facts: dict[str, Any] = {"status": 0xA700, "message": "full", "transient": True}
    outbox.failed(connection, 100.0, 1, **facts, not_before=0.0)


def _unknown(connection: Connection) -> None:
    outbox.claim(connection, 100.0, "PACS", 10)
    outbox.unknown(connection, 100.0, 1, "silence", not_before=0.0)


def _failed_after_unknown(connection: Connection) -> None:
    _unknown(connection)
    _failed(connection)


def _stored(connection: Connection) -> None:
    outbox.claim(connection, 100.0, "PACS", 10)
    outbox.stored(connection, 100.0, 1, 0)


def _replayed(connection: Connection) -> None:
    _stored(connection)
    outbox.replay(connection, 100.0, delivery_id=1)


@pytest.mark.parametrize(
    ("before", "state", "outdated"),
    [
        (_queued, "withdrawn", None),
        (_failed, "withdrawn", None),
        (_unknown, "withdrawn", "open"),
        (_failed_after_unknown, "withdrawn", "open"),
        (_stored, "stored", "open"),
        (_replayed, "withdrawn", "open"),
    ],
)
def test_deliveries_of_a_superseded_run(
    store: Store, before: Callable[[Connection], None], state: str, outdated: str | None
) -> None:
    with store.write() as connection:
        freeze(connection, [written()])
        before(connection)
        _corrected(connection)
        assert outbox.claim(connection, 1e9, "PACS", 10) == []
        assert outbox.next_due(connection, "PACS") is None
        assert len(outdated_deliveries(connection)) == (outdated is not None)
    assert _states(store) == [(state, outdated)]


def test_nothing_of_a_superseded_run_is_claimed_whatever_its_delivery_says(store: Store) -> None:
    with store.write() as connection:
        freeze(connection, [written()])
        connection.execute(update(tables.jobs).values(superseded_at=1.0))
        assert outbox.claim(connection, 1e9, "PACS", 10) == []
        assert outbox.next_due(connection, "PACS") is None


def _nothing_left(connection: Connection, delivery: outbox.Delivery) -> None:
    outbox.withdraw_claimed(connection, 201.0, delivery.id)


def _it_arrived(connection: Connection, delivery: outbox.Delivery) -> None:
    assert not outbox.stored(connection, 201.0, delivery.id, 0)


def _no_answer(connection: Connection, delivery: outbox.Delivery) -> None:
    outbox.unknown(connection, 201.0, delivery.id, "silence", not_before=0.0)


def _refused(connection: Connection, delivery: outbox.Delivery) -> None:
    outbox.failed(connection, 201.0, delivery.id, status=1, message="no", transient=True, not_before=0.0)


def _sender_died(connection: Connection, delivery: outbox.Delivery) -> None:
    outbox.recover(connection, 201.0, "PACS")


@pytest.mark.parametrize(
    ("then", "state", "outdated"),
    [
        (_nothing_left, "withdrawn", None),
        (_refused, "withdrawn", None),
        (_it_arrived, "stored", "open"),
        (_no_answer, "withdrawn", "open"),
        (_sender_died, "withdrawn", "open"),
    ],
)
def test_a_correction_after_the_claim(
    store: Store, then: Callable[[Connection, outbox.Delivery], None], state: str, outdated: str | None
) -> None:
    with store.write() as connection:
        freeze(connection, [written()])
        (delivery,) = outbox.claim(connection, 100.0, "PACS", 10)
        assert outbox.still_wanted(connection, delivery)
        _corrected(connection)
    with store.write() as connection:
        assert not outbox.still_wanted(connection, delivery)
        then(connection, delivery)
        assert outbox.claim(connection, 1e9, "PACS", 10) == []
    assert _states(store) == [(state, outdated)]


def test_there_and_back_again(store: Store) -> None:
    with store.write() as connection:
        assert record(connection, 100.0, association="a1") is Recorded.NEW
        assert record(connection, 101.0, association="a2", digest="d2", patient_id="P2") is Recorded.CORRECTED
        assert record(connection, 102.0, association="a2", digest="d2", patient_id="P2") is Recorded.DUPLICATE
        assert record(connection, 103.0, association="a3") is Recorded.CORRECTED
        assert record(connection, 104.0, association="a3") is Recorded.DUPLICATE
        study = index.study(connection, STUDY)
        assert study is not None and (study.patient_id, study.corrected_at) == ("P1", 103.0)
    assert _active(store) == [(STUDY, "d1")]


def test_padding_is_no_correction(store: Store) -> None:
    with store.write() as connection:
        record(connection, patient_name="Yamada^Taro")
        assert record(connection, digest="d2", patient_name="Yamada^Taro^^") is Recorded.CONFLICT
        assert record(connection, digest="d3", patient_name="Yamada^Taro=山田^太郎") is Recorded.CONFLICT
        assert record(connection, 200.0, digest="d4", patient_name="Yamada^Jiro=山田^二郎") is Recorded.CORRECTED
        assert record(connection, 300.0, digest="d5", patient_name="Yamada^Jiro=山田^次郎") is Recorded.CORRECTED


def test_a_lagging_clock_does_not_turn_a_correction_round(store: Store) -> None:
    with store.write() as connection:
        for number in (1, 2):
            record(connection, 100.0, digest=f"a{number}", sop_instance_uid=f"1.9.{number}", association="a")
        record(connection, 200.0, digest="b1", sop_instance_uid="1.9.1", patient_id="P2", association="b")
        record(connection, 201.0, digest="b2", sop_instance_uid="1.9.2", patient_id="P2", association="b")
        # The next correction comes by a receiver whose clock is far behind.
        record(connection, 50.0, digest="c1", sop_instance_uid="1.9.1", patient_id="P3", association="c")
        left, total = copies.stragglers(connection, STUDY)
        assert ([row.digest for row in left], total) == (["b2"], 2)
        record(connection, 51.0, digest="c2", sop_instance_uid="1.9.2", patient_id="P3", association="c")
        assert copies.stragglers(connection, STUDY) == ([], 2)


def test_the_database_allows_one_active_copy(store: Store) -> None:
    with store.write() as connection:
        record(connection)
        record(connection, digest="d2")
    with pytest.raises(exc.IntegrityError), store.write() as connection:
        connection.execute(update(tables.instances).values(active=True))


@pytest.mark.parametrize("together", [1, 2, 4])
def test_receivers_at_once_leave_one_active_copy(store: Store, together: int) -> None:
    """Copies with other patients and other studies by several receivers, in opposite orders, some in a transaction."""
    uids = [f"1.7.{number}" for number in range(4)]
    failures: list[BaseException] = []

    def receive(number: int) -> None:
        mine = [_moving(uid, number) for uid in (uids if number % 2 else reversed(uids))]
        try:
            for first in range(0, len(mine), together):
                with store.write() as connection:
                    index.record_instances(connection, mine[first : first + together])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with store.read() as connection:
        rows = connection.execute(select(tables.instances)).all()
    assert len(rows) == 24
    assert sorted(row.sop_instance_uid for row in rows if row.active) == uids


def _moving(uid: str, receiver: int) -> Arrival:
    facts = {"sop_instance_uid": uid, "patient_id": f"P{receiver}", "study_uid": f"1.2.{receiver % 3}"}
    digest = f"{uid}-{receiver}"
    return Arrival(100.0 + receiver, header(**facts), f"{digest}.dcm", digest, 1, "a", "MR1", "AINODE")


def test_upgrade_chooses_the_copy_that_counted_before(empty_settings: Settings) -> None:
    empty_settings.data_dir.mkdir(parents=True, exist_ok=True)
    engine = make_engine(empty_settings)
    with engine.connect().execution_options(ainode_write=True) as connection, connection.begin():
        command.upgrade(migration.configuration(connection), "0001")
        for number, (sop, study, digest, patient) in enumerate(
            [
                ("1.1", "1.2", "a", "P1"),
                ("1.1", "1.2", "b", "P1"),  # other pixels: the first stays
                ("1.2", "1.2", "a", "P1"),
                ("1.2", "1.2", "b", "P2"),  # corrected
                ("1.3", "1.2", "a", "P1"),
                ("1.3", "1.9", "b", "P1"),  # moved
                ("1.4", "1.2", "a", "P1"),
            ]
        ):
            facts = {"sop_instance_uid": sop, "study_uid": study, "digest": digest, "patient_id": patient}
            connection.execute(text(_insert_of_0001()), {**_FACTS, **facts, "path": str(number)})
    engine.dispose()
    upgrade(empty_settings)
    store = open_store(empty_settings)
    try:
        with store.read() as connection:
            chosen = select(tables.instances.c.path).where(tables.instances.c.active.is_(True))
            assert sorted(connection.execute(chosen).scalars()) == ["0", "3", "5", "6"]
    finally:
        store.close()


_FACTS = {
    "sop_class_uid": "1.2",
    "series_uid": "1.2.3",
    "transfer_syntax_uid": "1.2",
    "size": 1,
    "received_at": 1.0,
    "calling_ae_title": "",
    "called_ae_title": "",
    "ours": False,
    "modality": "MR",
    "issuer_of_patient_id": "",
    "patient_name": "",
    "patient_birth_date": "",
    "accession_number": "",
    "headers": "{}",
}


def _insert_of_0001() -> str:
    names = [*_FACTS, "sop_instance_uid", "study_uid", "digest", "patient_id", "path"]
    return f"INSERT INTO instances ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"
