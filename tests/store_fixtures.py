"""A migrated, empty store of each kind. Tests import the fixtures by name; a store test runs once for each kind.

PostgreSQL is a private cluster from the distribution's binaries: in a folder of its own, reached by a Unix socket
only, stopped at the end of the session.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.archive.engine import Store, open_store, upgrade
from node.settings import Settings
from tests.store_databases import PostgreSQL, run_server_program, settings_for

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)]

_TEMPLATE = "template_ainode"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A private PostgreSQL cluster without data."""
    folder = Path(tempfile.mkdtemp(prefix="ainode-pg-"))
    data = folder / "data"
    try:
        run_server_program(
            folder, "initdb", "-D", str(data), "--auth=trust", "--username=ainode", "-E", "UTF8", "--no-sync"
        )
        # Nothing here outlives the session, so the disk need not be waited for.
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off -c max_connections=60"
        run_server_program(folder, "pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            yield PostgreSQL(folder)
        finally:
            run_server_program(folder, "pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a migrated database to copy."""
    postgresql.execute(f"CREATE DATABASE {_TEMPLATE}")
    upgrade(settings_for(postgresql.url(_TEMPLATE), tmp_path_factory.mktemp("pg")))
    return _TEMPLATE


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file to copy."""
    settings = settings_for("", tmp_path_factory.mktemp("sqlite"))
    upgrade(settings)
    return settings.data_dir / "node.db"


@pytest.fixture(params=KINDS)
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings whose store is migrated and empty; once with SQLite, once with PostgreSQL."""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_template"), tmp_path / "node.db")
        return settings_for("", tmp_path)
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    name = f"test_{uuid.uuid4().hex}"
    postgresql.execute(f"CREATE DATABASE {name} TEMPLATE {request.getfixturevalue('postgresql_template')}")
    return settings_for(postgresql.url(name), tmp_path)


@pytest.fixture(params=KINDS)
def empty_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings whose store has no tables yet."""
    if request.param == "sqlite":
        return settings_for("", tmp_path)
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    name = f"empty_{uuid.uuid4().hex}"
    postgresql.execute(f"CREATE DATABASE {name}")
    return settings_for(postgresql.url(name), tmp_path)


@pytest.fixture
def store(store_settings: Settings) -> Iterator[Store]:
    """An open, empty store."""
    opened = open_store(store_settings)
    try:
        yield opened
    finally:
        opened.close()
