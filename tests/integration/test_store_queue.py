"""The job queue on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Connection, select

from node.archive import tables
from node.archive.engine import Store
from node.errors import AttemptsExhausted, LeaseLost, NotStored, UsageError
from node.jobs import queue
from node.jobs.queue import JobState, Priority

pytest_plugins = ["tests.store_fixtures"]


def add(connection: Connection, now: float = 100.0, **values: Any) -> int | None:
    facts: dict[str, Any] = {
        "study_uid": "1.2.3",
        "rule": "stroke",
        "model_id": "infarct",
        "input_key": "k1",
        "priority": Priority.ROUTINE,
        "maximum_attempts": 3,
        "specification": {"files": ["a"]},
        "shadow": False,
    }
    return queue.enqueue(connection, now, **{**facts, **values})


def take(connection: Connection, now: float = 100.0, owner: str = "d1", **values: Any) -> queue.LeasedJob | None:
    return queue.lease(connection, now, owner=owner, lease_seconds=30.0, **values)


def state(store: Store, job_id: int) -> str:
    with store.read() as connection:
        row = queue.get(connection, job_id)
    assert row is not None
    return str(row.state)


def _kinds(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(select(tables.ledger.c.kind).order_by(tables.ledger.c.id)).scalars())


def test_a_job_from_filing_to_done(store: Store) -> None:
    with store.write() as connection:
        job_id = add(connection)
    assert job_id is not None
    with store.write() as connection:
        job = take(connection, 101.0)
    assert job is not None
    assert (job.id, job.attempt, job.priority, job.lease_until) == (job_id, 1, Priority.ROUTINE, 131.0)
    assert job.specification == {"files": ["a"]}
    with store.write() as connection:
        assert queue.heartbeat(connection, 120.0, job_id, "d1", lease_seconds=30.0)
        assert not queue.heartbeat(connection, 120.0, job_id, "d2", lease_seconds=30.0)
        assert queue.sweep(connection, 149.0) == []
        queue.finish(connection, 149.0, job_id, "d1", result={"outcome": "found"})
    with store.read() as connection:
        row = queue.get(connection, job_id)
    assert row is not None
    assert (row.state, row.result, row.lease_owner, row.ended_at) == ("done", {"outcome": "found"}, None, 149.0)
    assert _kinds(store) == ["job.queued", "job.started", "job.finished"]


def test_work_is_filed_once(store: Store) -> None:
    with store.write() as connection:
        first = add(connection)
        assert first is not None
        assert add(connection) is None
        assert add(connection, priority=Priority.STAT) is None
        assert add(connection, input_key="k2") is not None
        assert add(connection, rule="other") is not None
        assert add(connection, run=2) is not None
    assert _kinds(store) == ["job.queued"] * 4


def test_work_filed_at_once_is_filed_once(store: Store) -> None:
    filed: list[int | None] = []
    ready = threading.Barrier(6)

    def file() -> None:
        ready.wait()
        for number in range(5):
            with store.write() as connection:
                filed.append(add(connection, input_key=f"k{number}"))

    _in_threads(6, file)
    assert len([job for job in filed if job is not None]) == 5
    assert len(filed) == 30
    assert _kinds(store) == ["job.queued"] * 5


def test_the_most_urgent_first_then_the_oldest(store: Store) -> None:
    order = [Priority.OFF_PEAK, Priority.ROUTINE, Priority.STAT, Priority.URGENT, Priority.ROUTINE, Priority.STAT]
    with store.write() as connection:
        ids = [add(connection, study_uid=f"1.2.{number}", priority=priority) for number, priority in enumerate(order)]
        taken = [take(connection) for _ in order]
        assert take(connection) is None
    assert [job.id for job in taken if job] == [ids[index] for index in (2, 5, 3, 1, 4, 0)]


def test_the_slot_for_stat_takes_nothing_else(store: Store) -> None:
    with store.write() as connection:
        add(connection, priority=Priority.URGENT)
        assert take(connection, stat_only=True) is None
        stat = add(connection, input_key="k2", priority=Priority.STAT)
        job = take(connection, stat_only=True)
        assert job is not None
        assert job.id == stat


def test_many_dispatchers_take_each_job_once(store: Store) -> None:
    with store.write() as connection:
        for number in range(40):
            add(connection, input_key=f"k{number}")
    taken: list[int] = []

    def dispatch() -> None:
        owner = f"d{threading.get_ident()}"
        while True:
            with store.write() as connection:
                job = take(connection, owner=owner)
            if job is None:
                return
            taken.append(job.id)
            with store.write() as connection:
                queue.finish(connection, 101.0, job.id, owner, result={})

    _in_threads(8, dispatch)
    assert len(taken) == 40 == len(set(taken))
    with store.read() as connection:
        assert queue.count_by_state(connection) == {JobState.DONE: 40}
        assert {row.attempts for row in queue.list_jobs(connection)} == {1}


def test_the_attempt_counts_even_if_the_dispatcher_dies_at_once(store: Store) -> None:
    """A job that kills whoever runs it ends dead; the one beside it is not hurt."""
    with store.write() as connection:
        poison, sound = add(connection, input_key="poison"), add(connection, input_key="sound")
    assert poison is not None
    assert sound is not None
    now = 100.0
    for attempt in (1, 2, 3):
        with store.write() as connection:
            job = take(connection, now)
        assert job is not None
        assert (job.id, job.attempt) == (poison, attempt)
        now = job.lease_until + 1  # killed: nobody renews
        with store.write() as connection:
            assert queue.sweep(connection, now) == [poison]
    assert state(store, poison) == JobState.DEAD
    with store.write() as connection:
        job = take(connection, now)
        assert job is not None
        assert job.id == sound
        row = queue.get(connection, poison)
        assert row is not None
        assert (row.attempts, row.error_code, row.lease_owner) == (3, AttemptsExhausted.code, None)
    assert _kinds(store).count("job.expired") == 3
    assert _kinds(store).count("job.dead") == 1


def test_passing_failures_wait_and_end_dead(store: Store) -> None:
    fail = {"code": "JOB-002", "message": "died", "transient": True, "retry_seconds": 5.0}
    with store.write() as connection:
        job_id = add(connection, maximum_attempts=2)
        assert job_id is not None
        take(connection, 100.0)
        assert queue.fail(connection, 101.0, job_id, "d1", **fail) is JobState.QUEUED
        assert queue.next_due(connection) == 106.0
        assert take(connection, 105.9) is None
        assert take(connection, 106.0) is not None
        assert queue.fail(connection, 107.0, job_id, "d1", **fail) is JobState.DEAD
        assert take(connection, 1e9) is None
        row = queue.get(connection, job_id)
        assert row is not None
        assert (row.state, row.error_code, row.message, row.ended_at) == ("dead", "JOB-002", "died", 107.0)


def test_a_lasting_failure_is_not_tried_again(store: Store) -> None:
    with store.write() as connection:
        job_id = add(connection)
        assert job_id is not None
        take(connection)
        ended = queue.fail(
            connection, 101.0, job_id, "d1", code="MOD-004", message="graph", transient=False, retry_seconds=5.0
        )
        assert ended is JobState.FAILED
        assert take(connection, 1e9) is None


def test_who_lost_the_lease_changes_nothing(store: Store) -> None:
    with store.write() as connection:
        job_id = add(connection)
        assert job_id is not None
        take(connection, 100.0, owner="slow")
        queue.sweep(connection, 131.0)
        take(connection, 131.0, owner="second")
    for attempt in (
        lambda connection: queue.finish(connection, 132.0, job_id, "slow", result={}),
        lambda connection: queue.fail(
            connection, 132.0, job_id, "slow", code="x", message="x", transient=False, retry_seconds=0
        ),
        lambda connection: queue.give_back(connection, 132.0, job_id, "slow"),
    ):
        with pytest.raises(LeaseLost), store.write() as connection:
            attempt(connection)
    with store.write() as connection:
        assert not queue.heartbeat(connection, 132.0, job_id, "slow", lease_seconds=30.0)
        queue.finish(connection, 133.0, job_id, "second", result={"outcome": "found"})
    with pytest.raises(LeaseLost), store.write() as connection:
        queue.finish(connection, 134.0, job_id, "second", result={"outcome": "other"})
    with store.read() as connection:
        row = queue.get(connection, job_id)
        assert row is not None
        assert row.result == {"outcome": "found"}


def test_finishing_and_sweeping_at_once_leave_one_end(store: Store) -> None:
    for number in range(10):
        with store.write() as connection:
            job_id = add(connection, input_key=f"k{number}", maximum_attempts=1)
            assert job_id is not None
            take(connection, 100.0)
        ends: list[str] = []

        def finish(job_id: int = job_id, ends: list[str] = ends) -> None:
            try:
                with store.write() as connection:
                    queue.finish(connection, 131.0, job_id, "d1", result={})
                ends.append("done")
            except LeaseLost:
                pass

        def sweep(job_id: int = job_id, ends: list[str] = ends) -> None:
            with store.write() as connection:
                if job_id in queue.sweep(connection, 131.0):
                    ends.append("dead")

        threads = [threading.Thread(target=work) for work in (finish, sweep)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ends == [state(store, job_id)]


def test_cancelling(store: Store) -> None:
    with store.write() as connection:
        waiting, running = add(connection), add(connection, input_key="k2", priority=Priority.STAT)
        assert waiting is not None
        assert running is not None
        take(connection)
        assert queue.cancel(connection, 101.0, waiting) is JobState.CANCELLED
        assert queue.cancel(connection, 101.0, running) is JobState.CANCELLED
        assert not queue.heartbeat(connection, 102.0, running, "d1", lease_seconds=30.0)
        assert take(connection, 1e9) is None
        assert queue.cancel(connection, 103.0, running) is JobState.CANCELLED
        with pytest.raises(NotStored):
            queue.cancel(connection, 103.0, 999)
    assert _kinds(store).count("job.cancelled") == 2


def test_trying_again_by_hand(store: Store) -> None:
    with store.write() as connection:
        job_id = add(connection, maximum_attempts=1)
        assert job_id is not None
        with pytest.raises(UsageError):
            queue.retry(connection, 100.0, job_id)
        take(connection)
        queue.fail(connection, 101.0, job_id, "d1", code="x", message="x", transient=True, retry_seconds=0)
        queue.retry(connection, 102.0, job_id)
        job = take(connection, 102.0)
        assert job is not None
        assert job.attempt == 1
        queue.finish(connection, 103.0, job_id, "d1", result={})
        with pytest.raises(UsageError):
            queue.retry(connection, 104.0, job_id)
        with pytest.raises(NotStored):
            queue.retry(connection, 104.0, 999)


def test_giving_back_costs_no_attempt(store: Store) -> None:
    with store.write() as connection:
        job_id = add(connection, maximum_attempts=1)
        assert job_id is not None
        for _ in range(3):
            assert take(connection, 101.0) is not None
            queue.give_back(connection, 101.0, job_id, "d1")
        job = take(connection, 102.0)
        assert job is not None
        assert job.attempt == 1


def test_listing(store: Store) -> None:
    with store.write() as connection:
        ids = [add(connection, input_key=f"k{number}") for number in range(3)]
        add(connection, study_uid="1.2.9")
        take(connection)
        running = queue.list_jobs(connection, states=[JobState.RUNNING])
        assert [row.id for row in running] == [ids[0]]
        assert [row.id for row in queue.list_jobs(connection, study_uid="1.2.3", limit=2)] == [ids[2], ids[1]]
        assert queue.get(connection, 999) is None


def _in_threads(count: int, work: Any) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_runs_of_one_study_and_rule_go_one_after_the_other(store: Store) -> None:
    with store.write() as connection:
        first = add(connection, input_key="k1")
        other = add(connection, input_key="k1", rule="other")
        running = take(connection)
        second = add(connection, input_key="k2", run=2, priority=Priority.STAT)
        beside = take(connection)
        assert running is not None and beside is not None
        assert (running.id, beside.id) == (first, other), "the second run waits for the first"
        assert take(connection) is None
        # The first one's dispatcher dies: given back, it waits for another attempt, and the second overtakes it for good.
        queue.fail(connection, 101.0, running.id, "d1", code="X", message="x", transient=True, retry_seconds=60.0)
        overtaking = take(connection, 102.0)
        assert overtaking is not None and overtaking.id == second
    assert state(store, running.id) == "cancelled"
    with store.write() as connection, pytest.raises(UsageError, match="taken the place"):
        queue.retry(connection, 103.0, running.id)
