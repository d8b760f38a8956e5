"""The ledger's chain and its stories, on SQLite and PostgreSQL."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update

from node.archive import ledger, tables
from node.archive.engine import Dialect, Store
from node.errors import NotStored
from tests.integration.test_store_index import record

pytest_plugins = ["tests.store_fixtures"]
TABLE = tables.ledger


def _write(store: Store, count: int, **facts: Any) -> None:
    with store.write() as connection:
        for number in range(count):
            ledger.record(connection, float(number), "node.started", number=number, **facts)


def _seal(store: Store, limit: int = 1000) -> int:
    with store.write() as connection:
        return ledger.seal(connection, limit)


def _verify(store: Store) -> ledger.LedgerVerdict:
    with store.read() as connection:
        return ledger.verify(connection)


def test_sealing_in_pieces(store: Store) -> None:
    assert _verify(store) == ledger.LedgerVerdict(True, 0, 0, ledger.GENESIS)
    _write(store, 25)
    assert [_seal(store, 10) for _ in range(4)] == [10, 10, 5, 0]
    _write(store, 3)
    verdict = _verify(store)
    assert (verdict.intact, verdict.sealed, verdict.unsealed) == (True, 25, 3)
    with store.read() as connection:
        rows = connection.execute(select(TABLE).order_by(TABLE.c.id)).all()
    assert [row.sequence for row in rows] == [*range(1, 26), None, None, None]
    assert verdict.head == rows[24].seal


def test_the_same_rows_get_the_same_seals(store: Store) -> None:
    """What the seal covers is fixed: a change of the recipe would break every site's chain."""
    with store.write() as connection:
        ledger.record(
            connection, 1.5, "job.queued", study_uid="1.2", job_id=7, sop_instance_uid="1.3", b=[1, 2.5], a="é"
        )
        ledger.seal(connection)
    assert _verify(store).head == "8805b355924cb205499ab7a0af5bb258842f1e9f85140485663ee7e9e09455e0"


def test_any_detail_survives(store: Store) -> None:
    with store.write() as connection:
        ledger.record(
            connection,
            1.0,
            "x",
            nothing=None,
            infinite=math.inf,
            tiny=5e-324,
            whole=2**60,
            text="a\0b\ud800 頭部",
            names={"b", "a"},
            nested={1: (True, {"x": 0.1})},
            other=ValueError("v"),
        )
        ledger.seal(connection)
        (detail,) = connection.execute(select(TABLE.c.detail)).scalars()
    assert detail == {
        "nothing": None,
        "infinite": "inf",
        "tiny": 5e-324,
        "whole": 2**60,
        "text": "ab? 頭部",
        "names": ["a", "b"],
        "nested": {"1": [True, {"x": 0.1}]},
        "other": "v",
    }
    assert _verify(store).intact


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", 99.0),
        ("kind", "node.stopped"),
        ("study_uid", "1.2"),
        ("job_id", 4),
        ("sop_instance_uid", "1.2"),
        ("detail", {"number": 12}),
        ("seal", "0" * 64),
        ("id", 1000),
    ],
)
def test_a_changed_row_is_found(store: Store, column: str, value: Any) -> None:
    _write(store, 20)
    _seal(store)
    with store.write() as connection:
        connection.execute(update(TABLE).where(TABLE.c.sequence == 11).values({column: value}))
    verdict = _verify(store)
    assert not verdict.intact
    assert "row 11 " in verdict.problem


def test_a_lost_row_is_found(store: Store) -> None:
    _write(store, 20)
    _seal(store)
    with store.write() as connection:
        connection.execute(delete(TABLE).where(TABLE.c.sequence == 11))
    assert "row 11 is missing" in _verify(store).problem


def test_rows_cut_off_the_end_are_found(store: Store) -> None:
    _write(store, 20)
    _seal(store)
    with store.write() as connection:
        connection.execute(delete(TABLE).where(TABLE.c.sequence > 15))
    assert "rows 16 to 20 are missing" in _verify(store).problem


def test_renumbering_after_a_loss_is_found(store: Store) -> None:
    _write(store, 20)
    _seal(store)
    with store.write() as connection:
        connection.execute(delete(TABLE).where(TABLE.c.sequence == 11))
        for sequence in range(12, 21):
            connection.execute(update(TABLE).where(TABLE.c.sequence == sequence).values(sequence=sequence - 1))
    assert not _verify(store).intact


def test_a_row_put_in_is_found(store: Store) -> None:
    _write(store, 5)
    _seal(store)
    with store.write() as connection:
        connection.execute(insert(TABLE).values(at=1.0, kind="x", detail={}, sequence=6, seal="0" * 64))
    assert not _verify(store).intact
    with store.write() as connection:
        connection.execute(update(TABLE).where(TABLE.c.sequence == 6).values(sequence=0))
    assert not _verify(store).intact


def test_writers_and_sealers_at_once(store: Store) -> None:
    """Rows that commit late, behind others with higher numbers, are sealed all the same."""
    stop = threading.Event()

    def seal_all_the_time() -> None:
        while not stop.is_set():
            _seal(store, 7)

    def write() -> None:
        for number in range(15):
            with store.write() as connection:
                ledger.record(connection, 1.0, "x", number=number)
                if number % 5 == 0 and store.dialect is Dialect.POSTGRESQL:
                    connection.execute(text("SELECT pg_sleep(0.02)"))

    sealers = [threading.Thread(target=seal_all_the_time) for _ in range(2)]
    writers = [threading.Thread(target=write) for _ in range(5)]
    for thread in sealers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in sealers:
        thread.join()
    while _seal(store):
        pass
    verdict = _verify(store)
    assert (verdict.intact, verdict.sealed, verdict.unsealed) == (True, 75, 0)


def test_a_row_that_commits_behind_a_sealed_one_is_not_missed(store: Store) -> None:
    if store.dialect is Dialect.SQLITE:
        pytest.skip("SQLite has one writer, so rows commit in the order of their numbers")
    with store.write() as late:
        ledger.record(late, 1.0, "late")
        with store.write() as early:
            ledger.record(early, 2.0, "early")
        assert _seal(store) == 1
    assert _seal(store) == 1
    assert (_verify(store).intact, _verify(store).sealed) == (True, 2)


def _study(store: Store) -> None:
    with store.write() as connection:
        for number in range(5):
            record(
                connection, 100.0 + number, sop_instance_uid=f"1.2.3.4.{number}", digest=f"d{number}", association="a"
            )
        record(connection, 106.0, sop_instance_uid="1.2.3.5.1", series_uid="1.2.3.5", digest="e", association="a")
        record(
            connection,
            107.0,
            study_uid="1.2.9",
            series_uid="1.2.9.0",
            sop_instance_uid="1.2.9.1",
            digest="f",
            accession_number="OTHER",
        )
        ledger.record(connection, 110.0, "arrival.decided", study_uid="1.2.3", evidence={"instances": 6})
        for job in (1, 2):
            connection.execute(
                insert(tables.jobs).values(
                    study_uid="1.2.3",
                    rule=f"r{job}",
                    model_id="m",
                    input_key="k",
                    priority=0,
                    state="done",
                    maximum_attempts=1,
                    created_at=0.0,
                    specification={},
                )
            )
            ledger.record(connection, 110.0 + job, "job.queued", study_uid="1.2.3", job_id=job)
        connection.execute(
            insert(tables.objects).values(
                sop_instance_uid="2.25.1",
                sop_class_uid="1.2",
                series_uid="2.25.2",
                study_uid="1.2.3",
                transfer_syntax_uid="1.2",
                job_id=2,
                role="seg",
                profile="default",
                path="x",
                digest="d",
                size=1,
                frozen_at=0.0,
            )
        )
        facts = {"id": "a", "calling_ae_title": "S", "called_ae_title": "N", "address": "127.0.0.1"}
        connection.execute(
            insert(tables.associations).values(**facts, opened_at=99.0, closed_at=108.0, ending="released")
        )


@pytest.mark.parametrize(
    ("reference", "jobs", "instances"),
    [
        ("A1", [1, 2], 6),
        ("1.2.3", [1, 2], 6),
        (" 1.2.3 ", [1, 2], 6),
        ("1.2.3.4", [1, 2], 5),
        ("1.2.3.4.3", [1, 2], 1),
        ("2.25.1", [2], 6),
        ("2.25.2", [2], 6),
        ("1", [1], 6),
    ],
)
def test_a_story_by_any_reference(store: Store, reference: str, jobs: list[int], instances: int) -> None:
    _study(store)
    with store.read() as connection:
        facts = ledger.story(connection, reference)
    assert [fact.job_id for fact in facts if fact.kind == "job.queued"] == jobs
    assert sum(fact.count for fact in facts if fact.kind == "instance.received") == instances
    assert [fact.at for fact in facts] == sorted(fact.at for fact in facts)
    assert facts[0].kind == "association.opened"
    assert "1.2.9" not in {fact.study_uid for fact in facts}


def test_a_story_tells_many_instances_once(store: Store) -> None:
    _study(store)
    with store.read() as connection:
        kinds = [(fact.kind, fact.count) for fact in ledger.story(connection, "1.2.3")]
    assert kinds == [
        ("association.opened", 1),
        ("instance.received", 6),
        ("association.closed", 1),
        ("arrival.decided", 1),
        ("job.queued", 1),
        ("job.queued", 1),
    ]


@pytest.mark.parametrize("reference", ["", "9.9.9", "12345", "99999999999999999999999999", "'; --"])
def test_an_unknown_reference_says_so(store: Store, reference: str) -> None:
    with pytest.raises(NotStored), store.read() as connection:
        ledger.story(connection, reference)
