"""The store's engine and schema, on SQLite and PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, func, insert, select, text

from node.archive import engine, migration, tables, text_tables
from node.archive.engine import Dialect, Store, open_store, upgrade
from node.errors import (
    ConfigError,
    StoreMisused,
    StoreOnNetworkFileSystem,
    StoreSchemaMismatch,
    StoreUnavailable,
)
from node.settings import Settings
from tests.store_databases import PostgreSQL, settings_for

pytest_plugins = ["tests.store_fixtures"]


def _add_row(connection: Connection) -> None:
    connection.execute(insert(tables.ledger).values(at=1.0, kind="test", detail={}))


def _rows(store: Store) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(tables.ledger)).scalar_one()


def test_migrated_schema_is_the_declared_one(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, text_tables.metadata) == []


def test_there_is_one_head_and_the_tables_name_it() -> None:
    assert migration.head() == tables.REVISION


def test_upgrade_from_nothing_and_again(empty_settings: Settings) -> None:
    with pytest.raises(StoreSchemaMismatch):
        open_store(empty_settings)
    assert upgrade(empty_settings) == tables.REVISION
    assert upgrade(empty_settings) == tables.REVISION
    open_store(empty_settings).close()


def test_upgrades_at_the_same_time(empty_settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=upgrade, args=(empty_settings,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    open_store(empty_settings).close()


def test_database_of_a_newer_version_is_refused(store_settings: Settings) -> None:
    opened = open_store(store_settings)
    with opened.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    opened.close()
    with pytest.raises(StoreSchemaMismatch, match="9999"):
        open_store(store_settings)
    with pytest.raises(StoreSchemaMismatch):
        upgrade(store_settings)


def test_a_failed_migration_leaves_nothing(empty_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Exception):
        pass

    def fail_at_the_end(*_: object) -> None:
        raise Interrupted

    real = migration.command.upgrade

    def upgrade_then_fail(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        fail_at_the_end()

    monkeypatch.setattr(migration.command, "upgrade", upgrade_then_fail)
    with pytest.raises(Interrupted):
        upgrade(empty_settings)
    monkeypatch.undo()
    with pytest.raises(StoreSchemaMismatch, match="no tables"):
        open_store(empty_settings)
    upgrade(empty_settings)


def test_an_error_in_the_block_rolls_back(store: Store) -> None:
    with pytest.raises(ValueError, match="stop"), store.write() as connection:
        _add_row(connection)
        raise ValueError("stop")
    assert _rows(store) == 0
    with store.write() as connection:
        _add_row(connection)
    assert _rows(store) == 1


def test_reading_cannot_write(store: Store) -> None:
    with pytest.raises(Exception, match=r"(?i)read-?only"), store.read() as connection:
        _add_row(connection)
    with store.write() as connection:  # the same pooled connection writes again
        _add_row(connection)
    assert _rows(store) == 1


def test_a_defect_is_not_called_unavailable(store: Store) -> None:
    with pytest.raises(Exception, match="no_such_table") as caught, store.write() as connection:
        connection.execute(text("SELECT * FROM no_such_table"))
    assert not isinstance(caught.value, StoreUnavailable)


def test_a_store_is_not_carried_through_fork(store: Store) -> None:
    child = os.fork()
    if child == 0:
        try:
            with store.read():
                os._exit(1)
        except StoreMisused:
            os._exit(0)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _rows(store) == 0


def test_a_lock_held_too_long_is_unavailable(store_settings: Settings) -> None:
    impatient = store_settings.model_copy(
        update={"store": store_settings.store.model_copy(update={"busy_timeout_seconds": 0.3})}
    )
    first, second = open_store(store_settings), open_store(impatient)
    lock = select(tables.studies).where(tables.studies.c.study_uid == "1.2").with_for_update()
    with first.write() as connection:
        connection.execute(insert(tables.studies).values(study_uid="1.2", first_at=0.0, last_at=0.0))
    with first.write() as connection:
        connection.execute(lock)
        with pytest.raises(StoreUnavailable), second.write() as other:
            other.execute(lock)
    with second.write() as connection:
        connection.execute(lock)
    first.close()
    second.close()


def test_threads_write_in_turn(store: Store) -> None:
    def work() -> None:
        for _ in range(10):
            with store.write() as connection:
                _add_row(connection)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _rows(store) == 80


def test_writing_inside_writing_is_refused_on_sqlite(store: Store) -> None:
    if store.dialect is not Dialect.SQLITE:
        pytest.skip("PostgreSQL has several writers")
    with store.write(), pytest.raises(StoreMisused), store.write():
        pass
    with store.write() as connection:
        _add_row(connection)


@pytest.mark.parametrize(("mode", "level"), [("instance", 2), ("association", 1)])
def test_sqlite_waits_for_the_disk_where_the_mode_promises_it(tmp_path: Path, mode: str, level: int) -> None:
    settings = settings_for("", tmp_path, receive={"mode": mode})
    upgrade(settings)
    opened = open_store(settings)
    with opened.write() as connection:
        pragmas = [
            connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("synchronous", "journal_mode", "foreign_keys")
        ]
    opened.close()
    assert pragmas == [level, "wal", 1]


def test_postgresql_waits_for_the_disk_even_where_the_server_does_not(
    postgresql: PostgreSQL, postgresql_template: str, tmp_path: Path
) -> None:
    postgresql.execute(f"CREATE DATABASE hasty TEMPLATE {postgresql_template}")
    postgresql.execute("ALTER DATABASE hasty SET synchronous_commit TO off")
    opened = open_store(settings_for(postgresql.url("hasty"), tmp_path))
    with opened.read() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    opened.close()


def test_a_database_file_is_for_its_owner_only(tmp_path: Path) -> None:
    settings = settings_for("", tmp_path / "data")
    upgrade(settings)
    assert (settings.data_dir / "node.db").stat().st_mode & 0o077 == 0
    assert settings.data_dir.stat().st_mode & 0o077 == 0


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for("", tmp_path)
    upgrade(settings)
    monkeypatch.setattr(engine, "file_system_type", lambda path: "nfs4")
    with pytest.raises(StoreOnNetworkFileSystem, match="nfs4"):
        open_store(settings)


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "not a url"])
def test_other_databases_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        open_store(settings_for(url, tmp_path))


def test_unreachable_postgresql_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        open_store(settings_for(f"postgresql://ainode@/none?host={tmp_path}", tmp_path))


def test_a_dropped_connection_is_unavailable_once(
    postgresql: PostgreSQL, postgresql_template: str, tmp_path: Path
) -> None:
    postgresql.execute(f"CREATE DATABASE dropped TEMPLATE {postgresql_template}")
    opened = open_store(settings_for(postgresql.url("dropped"), tmp_path))
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'dropped'"
    with pytest.raises(StoreUnavailable), opened.write() as connection:
        postgresql.execute(end)
        _add_row(connection)
    with opened.write() as connection:
        _add_row(connection)
    assert _rows(opened) == 1
    opened.close()


def test_a_full_disk_is_unavailable(tmp_path: Path) -> None:
    settings = settings_for("", tmp_path)
    upgrade(settings)
    opened = open_store(settings)
    with pytest.raises(StoreUnavailable, match="full"), opened.write() as connection:
        connection.execute(text("PRAGMA max_page_count = 1"))
        for _ in range(200):
            connection.execute(insert(tables.ledger).values(at=1.0, kind="x", detail={"text": "x" * 4000}))
    opened.close()
    assert sqlite3.connect(tmp_path / "node.db").execute("SELECT count(*) FROM ledger").fetchone() == (0,)


def test_writers_of_other_processes_get_their_turn(store_settings: Settings) -> None:
    """One process writes without a pause; another one's single write must not starve."""
    context = multiprocessing.get_context("spawn")
    stop, started = context.Event(), context.Event()
    process = context.Process(target=_write_without_pause, args=(store_settings, started, stop))
    process.start()
    opened = open_store(store_settings)
    try:
        assert started.wait(60)
        waits = []
        for _ in range(20):
            begun = time.monotonic()
            with opened.write() as connection:
                _add_row(connection)
            waits.append(time.monotonic() - begun)
    finally:
        stop.set()
        process.join(60)
        opened.close()
    assert process.exitcode == 0
    assert sorted(waits)[10] < 1.0


def _write_without_pause(settings: Settings, started: Event, stop: Event) -> None:
    store = open_store(settings)
    while not stop.is_set():
        with store.write() as connection:
            _add_row(connection)
        started.set()
    store.close()
