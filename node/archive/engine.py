"""The store: one SQLite file, or a PostgreSQL database, behind the same two context managers.

SQLite: write-ahead log, every write transaction begins IMMEDIATE so that it never fails half way on a lock, and writers
queue at a :class:`~node.archive.turnstile.Turnstile` before they meet SQLite's unfair lock. In mode
``instance`` a commit is on the disk when it returns (``synchronous=FULL``); in mode ``association`` it survives the
death of a process but not a power cut (``synchronous=NORMAL``).

PostgreSQL: READ COMMITTED, bounded lock waits, and a commit that waits for the disk even where the server's default
does not.

A store is opened after the process started: a connection carried through ``fork`` corrupts both kinds, so it is
refused.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, inspect, make_url, text

from node.archive import tables
from node.archive.file_system import file_system_type, is_network_file_system
from node.archive.turnstile import Turnstile
from node.errors import ConfigError, StoreMisused, StoreOnNetworkFileSystem, StoreSchemaMismatch, StoreUnavailable
from node.settings import Settings

CONNECT_TIMEOUT_SECONDS = 5
MIGRATION_LOCK = 0x61696E6F  # "aino": key of the advisory lock under which a PostgreSQL schema is changed
_MAY_WRITE = "ainode_may_write"
# Pages in the write-ahead log before they are moved into the file, 16 MiB: the same few are written with every instance,
# and those that come again before that are moved once.
_CHECKPOINT_PAGES = 4000

# Result codes of SQLite (sqlite.org/rescode.html) after which the same call may succeed later.
_PASSING_SQLITE_CODES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)


class Dialect(StrEnum):
    """Kind of database."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Store:
    """An open database. Safe to share between threads, never between processes.

    Attributes
    ----------
    dialect : Dialect
        Kind of database.
    """

    def __init__(self, engine: Engine, *, lock_timeout_seconds: float) -> None:
        self.dialect = Dialect(engine.dialect.name)
        self._engine = engine
        self._process = os.getpid()
        self._turnstile: Turnstile | None = None
        # Of write_sqlite; its statements stay compiled, which a connection that also reads cannot give (see _begin).
        self._writer: sqlite3.Connection | None = None
        if self.dialect is Dialect.SQLITE:
            path = _sqlite_path(engine.url)
            self._turnstile = Turnstile(path.with_name(f"{path.name}-turn"), timeout_seconds=lock_timeout_seconds)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection in a write transaction; commit at the end, roll back when the block raises.

        Keep it short: on SQLite nobody else writes meanwhile.

        Raises
        ------
        StoreUnavailable
            Locked for too long, unreachable, or the disk is full. Nothing was written.
        StoreMisused
            Carried through a fork, or opened inside another write transaction of the same thread.
        """
        self._check_process()
        with self._turn(), _translated(writing=True), self._engine.connect() as connection:
            writing = connection.execution_options(ainode_write=True)
            with writing.begin():
                yield writing

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection in a read-only transaction: one consistent view, never blocked by a writer.

        Raises
        ------
        StoreUnavailable
            Unreachable.
        StoreMisused
            Carried through a fork.
        """
        self._check_process()
        with _translated(writing=False), self._engine.connect() as connection:
            reading = connection.execution_options(ainode_write=False, postgresql_readonly=True)
            with reading.begin():
                yield reading

    @contextmanager
    def write_sqlite(self) -> Iterator[sqlite3.Connection]:
        """As :meth:`write`, with the driver's own connection; for the few statements that are executed all the time.

        Raises
        ------
        StoreUnavailable, StoreMisused
            As :meth:`write`.
        """
        self._check_process()
        with self._turn(), _translated(writing=True):
            connection = self._only_writing()
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error:
                # Whatever is wrong with it: the next one begins anew.
                self._drop_writer()
                raise

    def _only_writing(self) -> sqlite3.Connection:
        """The connection of :meth:`write_sqlite`; the caller has the turn."""
        if self._writer is None:
            borrowed = self._engine.raw_connection()
            self._writer = cast(sqlite3.Connection, borrowed.driver_connection)
            borrowed.detach()
            # Whoever had it before may have read with it.
            self._writer.execute("PRAGMA query_only=OFF")
        return self._writer

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def close(self) -> None:
        """Close every connection. The store is of no use afterwards."""
        if self._process == os.getpid():
            self._drop_writer()
        self._engine.dispose(close=self._process == os.getpid())
        if self._turnstile:
            self._turnstile.close()

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise StoreMisused("the store was opened before a fork; open it in the process that uses it")

    def _turn(self) -> AbstractContextManager[None]:
        return self._turnstile.turn() if self._turnstile else nullcontext()


def open_store(settings: Settings) -> Store:
    """Open the store that ``ainode serve`` or ``ainode db upgrade`` made.

    Raises
    ------
    ConfigError
        ``store.url`` names another kind of database.
    StoreOnNetworkFileSystem
        SQLite on a file system whose locks cannot be trusted.
    StoreSchemaMismatch
        No database, or one of another version.
    StoreUnavailable
        Unreachable.
    """
    url = store_url(settings)
    if url.get_backend_name() == Dialect.SQLITE:
        path = _sqlite_path(url)
        if not path.exists():
            raise StoreSchemaMismatch(f"there is no database {path}")
    store = Store(make_engine(settings), lock_timeout_seconds=settings.store.busy_timeout_seconds)
    try:
        _check_schema(store)
    except BaseException:
        store.close()
        raise
    return store


def has_store(settings: Settings) -> bool:
    """Whether there is a database to open; of a server only opening it tells, so that one counts as there."""
    url = store_url(settings)
    return url.get_backend_name() != Dialect.SQLITE or _sqlite_path(url).exists()


def upgrade(settings: Settings) -> str:
    """Create the database or bring it to this version's schema, and return the revision it then has.

    Several processes may call it at once: one works, the others wait and find it done. A change is applied wholly or
    not at all.

    Raises
    ------
    ConfigError, StoreOnNetworkFileSystem, StoreUnavailable
        As :func:`open_store`.
    StoreSchemaMismatch
        The database was made by a newer version.
    """
    url = store_url(settings)
    if url.get_backend_name() == Dialect.SQLITE:
        path = _sqlite_path(url)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Created here so that nobody else can read it; SQLite gives its log the same permissions.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise ConfigError(
                f"node.data_dir: {path} cannot be written to ({error.strerror}); correct the path or its permissions"
            ) from error
    store = Store(make_engine(settings), lock_timeout_seconds=settings.store.busy_timeout_seconds)
    try:
        with store.write() as connection:
            if store.dialect is Dialect.POSTGRESQL:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            if _revisions(connection) == [tables.REVISION]:
                return tables.REVISION
            from node.archive import migration  # Alembic is slow to import, and few starts need it

            return migration.upgrade(connection)
    finally:
        store.close()


def downgrade(settings: Settings, revision: str) -> list[str]:
    """Take the schema back to an earlier revision, for an earlier version to run on; return the revisions taken back.

    Everything that the earlier version knows stays. Nobody may use the database meanwhile.

    Raises
    ------
    ConfigError, StoreUnavailable
        As :func:`open_store`.
    StoreSchemaMismatch
        There is no way back to it; nothing was changed.
    """
    from node.archive import migration

    store = Store(make_engine(settings), lock_timeout_seconds=settings.store.busy_timeout_seconds)
    try:
        with store.write() as connection:
            if store.dialect is Dialect.POSTGRESQL:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            return migration.downgrade(connection, revision)
    finally:
        store.close()


def store_url(settings: Settings) -> URL:
    """URL of the store with its driver.

    Raises
    ------
    ConfigError
        Neither a file of SQLite nor PostgreSQL.
    """
    try:
        url = make_url(settings.store_url)
    except exc.ArgumentError as error:
        raise ConfigError("store.url: is not a database URL; see config/node.toml for the form") from error
    match url.get_backend_name():
        case "sqlite" if url.database and url.database != ":memory:":
            return url.set(drivername="sqlite+pysqlite")
        case "postgresql" | "postgres":
            return url.set(drivername="postgresql+psycopg")
    raise ConfigError("store.url: only a file of SQLite and PostgreSQL are supported; leave it empty for SQLite")


def make_engine(settings: Settings) -> Engine:
    """SQLAlchemy engine for the store, with nothing checked in the database yet."""
    url = store_url(settings)
    durable = settings.receive.mode == "instance"
    if url.get_backend_name() == Dialect.SQLITE:
        return _sqlite_engine(url, busy_timeout_seconds=settings.store.busy_timeout_seconds, durable=durable)
    return _postgresql_engine(url, lock_timeout_seconds=settings.store.busy_timeout_seconds, durable=durable)


def _sqlite_path(url: URL) -> Path:
    return Path(str(url.database))


def _sqlite_engine(url: URL, *, busy_timeout_seconds: float, durable: bool) -> Engine:
    path = _sqlite_path(url)
    if is_network_file_system(kind := file_system_type(path)):
        raise StoreOnNetworkFileSystem(f"{path} lies on {kind}")
    engine = create_engine(url, connect_args={"timeout": busy_timeout_seconds}, pool_timeout=busy_timeout_seconds)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # The driver would begin DEFERRED transactions behind our back.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={int(busy_timeout_seconds * 1000)}",
            "journal_mode=WAL",
            f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
            f"synchronous={'FULL' if durable else 'NORMAL'}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("ainode_write", False)
        # Only where it changes: it has SQLite compile every statement of the connection anew.
        if connection.info.get(_MAY_WRITE) is not writing:
            connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if writing else 'ON'}")
            connection.info[_MAY_WRITE] = writing
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _postgresql_engine(url: URL, *, lock_timeout_seconds: float, durable: bool) -> Engine:
    milliseconds = int(lock_timeout_seconds * 1000)
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=lock_timeout_seconds,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "ainode",
            "options": f"-c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout={4 * milliseconds}",
            # A server that vanished without a word is noticed within this time instead of hours.
            "tcp_user_timeout": milliseconds,
            "keepalives_idle": 10,
        },
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        if not durable:
            return
        # Only "off" gives success before the disk has it; a site's stricter setting is left alone.
        (level,) = connection.execute("SHOW synchronous_commit").fetchone()
        if level == "off":
            connection.execute("SET synchronous_commit TO on")
        connection.commit()

    return engine


def _check_schema(store: Store) -> None:
    with store.read() as connection:
        found = _revisions(connection)
    if found is None:
        raise StoreSchemaMismatch("the database has no tables yet", needed=tables.REVISION)
    if found != [tables.REVISION]:
        raise StoreSchemaMismatch(
            f"the database has revision {', '.join(found) or 'none'}, this version needs {tables.REVISION}",
            found=found,
            needed=tables.REVISION,
        )


def _revisions(connection: Connection) -> list[str] | None:
    """What the database says of its schema; None where it has no tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return list(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())


@contextmanager
def _translated(*, writing: bool) -> Iterator[None]:
    """Turn what may pass by itself into StoreUnavailable; everything else is a defect and stays what it is."""
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreUnavailable("no free database connection") from error
    except exc.DBAPIError as error:
        if reason := _passing_reason(error, writing=writing):
            raise StoreUnavailable(reason) from error
        raise
    except sqlite3.Error as error:
        if reason := _passing_sqlite_reason(error, writing=writing):
            raise StoreUnavailable(reason) from error
        raise


def _first_line(error: BaseException | None) -> str:
    """The server's or the driver's own words. They name server and database, never a password or a value of a row."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _passing_reason(error: exc.DBAPIError, *, writing: bool) -> str | None:
    original = error.orig
    if isinstance(original, sqlite3.Error):
        return _passing_sqlite_reason(original, writing=writing)
    if isinstance(error, exc.OperationalError | exc.InterfaceError) or error.connection_invalidated:
        state = getattr(original, "sqlstate", None)
        return f"PostgreSQL: {_first_line(original)}{f' ({state})' if state else ''}"
    return None


def _passing_sqlite_reason(error: sqlite3.Error, *, writing: bool) -> str | None:
    # The low byte is the primary result code; the rest tells where it arose.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # A read-only disk passes; a write inside Store.read() is a defect of the caller.
    passing = code in _PASSING_SQLITE_CODES or (writing and code == sqlite3.SQLITE_READONLY)
    return f"SQLite: {error}" if passing else None
