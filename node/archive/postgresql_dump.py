"""PostgreSQL's own tools for copies: ``pg_dump`` and ``pg_restore``. Passwords go by the environment, never on a command line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sqlalchemy import URL, MetaData, create_engine, inspect, text

from node.errors import BackupUnusable


def dump(url: URL, target: Path) -> str:
    """Write one consistent state of the database, while others write; return the schema's revision."""
    _run(["pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={target}"], url)
    target.chmod(0o600)
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
    finally:
        engine.dispose()


def restore(url: URL, source: Path, kept: Path) -> None:
    """Put a dump in the place of what the database holds, which is dumped to ``kept`` first and put back on failure."""
    _run(["pg_restore", "--list", str(source)], url)
    engine = create_engine(url)
    try:
        if inspect(engine).has_table("alembic_version"):
            dump(url, kept)
        # Tables that only a later schema has would stand in the way of its migration.
        present = MetaData()
        present.reflect(engine)
        present.drop_all(engine)
        _fill(url, source, kept)
    finally:
        engine.dispose()


def _fill(url: URL, source: Path, kept: Path) -> None:
    words = ["pg_restore", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
    words.append(f"--dbname={url.database}")
    try:
        _run([*words, str(source)], url)
    except BackupUnusable:
        if kept.exists():
            _run([*words, str(kept)], url)
        raise


def _run(words: list[str], url: URL) -> None:
    host = url.host or url.query.get("host")
    known = {"PGHOST": host, "PGPORT": url.port, "PGUSER": url.username, "PGPASSWORD": url.password}
    environment = {**os.environ, "PGDATABASE": str(url.database)}
    environment |= {name: str(value) for name, value in known.items() if value}
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BackupUnusable(
            f"{words[0]} is not installed; install PostgreSQL's client programs of the server's version or a later one"
        ) from error
    if done.returncode:
        # It names tables and the server, never a value of a row.
        raise BackupUnusable(f"{words[0]}: {(done.stderr.strip().splitlines() or ['failed'])[0]}")
