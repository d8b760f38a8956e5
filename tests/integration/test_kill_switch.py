"""The kill switch: nothing of a paused scope starts or leaves, receiving goes on, and a person decides about the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from node import kill_switch
from node.archive import pauses, tables
from node.archive.engine import Store
from node.archive.pauses import Scope
from node.cli import main
from node.delivery import outbox
from node.dicom.pacs import TestPacs
from node.errors import UsageError
from node.jobs import queue
from tests.integration.test_send import deliver, destination, outbox_of, states
from tests.integration.test_store_outbox import freeze, written
from tests.integration.test_store_queue import add, take
from tests.network import instance, running_sender, wait_for

pytest_plugins = ["tests.store_fixtures"]

BY: dict[str, Any] = {"reason": "new scanner", "by": "admin"}
MODEL, RULE = "m", "r"


def _with_names(connection: Any) -> int:
    job_id = add(connection)
    assert job_id is not None
    names = {"model_id": MODEL, "rule": RULE, "specification": {"report_model": "writer"}}
    connection.execute(update(tables.jobs).where(tables.jobs.c.id == job_id).values(**names))
    return int(job_id)


@pytest.mark.parametrize(
    ("scope", "name", "stops_runs"),
    [
        (Scope.ALL, "", True),
        (Scope.MODEL, MODEL, True),
        (Scope.MODEL, "writer", True),
        (Scope.RULE, RULE, True),
        (Scope.DESTINATION, "PACS", False),
    ],
)
def test_nothing_of_a_paused_scope_starts_or_leaves(store: Store, scope: Scope, name: str, stops_runs: bool) -> None:
    with store.write() as connection:
        freeze(connection, [written()], job_id=_with_names(connection))
        connection.execute(update(tables.jobs).values(state="queued"))
        assert kill_switch.pause(connection, 100.0, scope, name, **BY)
        assert not kill_switch.pause(connection, 101.0, scope, name, **BY)
        assert outbox.claim(connection, 200.0, "PACS", 5) == []
        assert outbox.next_due(connection, "PACS") is None
        assert (take(connection) is None) is stops_runs
        assert kill_switch.backlog(connection, scope, name) == kill_switch.Backlog(int(stops_runs), 1)
    with store.write() as connection:
        kill_switch.resume(connection, 300.0, scope, name, run_backlog=True, **BY)
        assert pauses.active(connection) == []
        (delivery,) = outbox.claim(connection, 300.0, "PACS", 5)
        assert delivery.attempt == 1
    with store.read() as connection:
        told = connection.execute(select(tables.ledger).where(tables.ledger.c.kind.like("pause.%"))).all()
        assert [(row.kind, row.detail["scope"], row.detail["by"]) for row in told] == [
            ("pause.set", scope, "admin"),
            ("pause.lifted", scope, "admin"),
        ]


@pytest.mark.parametrize(
    ("scope", "name"), [(Scope.MODEL, "other"), (Scope.RULE, "other"), (Scope.DESTINATION, "other")]
)
def test_another_scope_is_not_touched(store: Store, scope: Scope, name: str) -> None:
    with store.write() as connection:
        freeze(connection, [written()], job_id=_with_names(connection))
        kill_switch.pause(connection, 100.0, scope, name, **BY)
        assert len(outbox.claim(connection, 200.0, "PACS", 5)) == 1
        assert take(connection) is not None


def test_a_discarded_backlog_never_leaves(store: Store) -> None:
    with store.write() as connection:
        freeze(connection, [written("2.25.1"), written("2.25.2")], job_id=_with_names(connection))
        connection.execute(update(tables.jobs).values(state="queued"))
        kill_switch.pause(connection, 100.0, Scope.RULE, RULE, **BY)
        waited = kill_switch.resume(connection, 200.0, Scope.RULE, RULE, run_backlog=False, **BY)
        assert waited == kill_switch.Backlog(1, 2)
        assert outbox.claim(connection, 300.0, "PACS", 5) == []
        assert [row.state for row in queue.list_jobs(connection)] == ["cancelled"]
        assert {row.message for row in outbox.list_deliveries(connection)} == {"discarded by an operator after a pause"}
        with pytest.raises(UsageError, match="not paused"):
            kill_switch.resume(connection, 300.0, Scope.RULE, RULE, run_backlog=True, **BY)


class _Slow(TestPacs):
    """Takes its time over each object."""

    begun = 0

    def _on_store(self, event: Any) -> int:
        self.begun += 1
        time.sleep(0.15)
        return super()._on_store(event)


def _command(tmp_path: Path, port: int) -> Callable[..., int]:
    configuration = tmp_path / "node.toml"
    configuration.write_text(
        f"[node]\ndata_dir = '{tmp_path / 'data'}'\n[destination.pacs]\nae_title = 'TESTPACS'\nhost = '127.0.0.1'\n"
        f"port = {port}\n"
    )
    return lambda *words: main(["--config", str(configuration), *words])


def test_within_a_second_and_over_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pacs = _Slow(tmp_path / "pacs")
    with pacs.running() as (_, port), outbox_of(tmp_path, {"pacs": destination(port)}) as (settings, store):
        ainode = _command(tmp_path, port)
        with running_sender(settings, store):
            deliver(settings, store, [instance(tmp_path / "in", number) for number in range(40)])
            wait_for(lambda: pacs.begun >= 3, "the first objects")
            assert ainode("pause", "destination", "pacs") == 2  # no reason
            assert ainode("pause", "destination", "pcas", "--reason", "typo") == 2
            assert ainode("pause", "destination", "pacs", "--reason", "archive is moved") == 0
            time.sleep(1.0)
            begun = pacs.begun
            time.sleep(1.0)
            assert pacs.begun == begun < 40
        with running_sender(settings, store):
            time.sleep(0.5)
            assert pacs.begun == begun
            assert ainode("resume", "destination", "pacs", "--reason", "done") == 2  # what of the backlog?
            assert "--run-backlog or --discard-backlog" in capsys.readouterr().err
            assert ainode("resume", "destination", "pacs", "--reason", "done", "--run-backlog") == 0
            wait_for(lambda: states(store) == ["stored"] * 40, "the rest", seconds=30)
        assert len(pacs.objects) == 40
        assert pacs.conflicts == []


def test_what_is_on_the_wire_is_cut(tmp_path: Path) -> None:
    """An object that takes longer than a second does not leave to its end."""

    class VerySlow(TestPacs):
        def _on_store(self, event: Any) -> int:
            time.sleep(3.0)
            return super()._on_store(event)

    pacs = VerySlow(tmp_path / "pacs")
    with (
        pacs.running() as (_, port),
        outbox_of(tmp_path, {"pacs": destination(port)}) as (settings, store),
        running_sender(settings, store),
    ):
        deliver(settings, store, [instance(tmp_path / "in")])
        wait_for(lambda: states(store) == ["sending"], "the object on the wire")
        time.sleep(0.3)
        with store.write() as connection:
            kill_switch.pause(connection, time.time(), Scope.ALL, "", **BY)
        wait_for(lambda: states(store) == ["unknown"], "the cut", seconds=1.0)
