"""Runs the migrations on a connection whose transaction the caller holds."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, inspect, text

from node.archive import tables
from node.errors import StoreSchemaMismatch

FOLDER = Path(__file__).with_name("migrations")


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration for this package; no alembic.ini is needed."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """Newest revision there is a script for."""
    return str(ScriptDirectory.from_config(configuration()).get_current_head())


def upgrade(connection: Connection) -> str:
    """Apply what is missing and return the revision reached.

    Raises
    ------
    StoreSchemaMismatch
        The database has a revision this version does not know: a newer version made it.
    """
    if inspect(connection).has_table("alembic_version"):
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        if found == [tables.REVISION]:
            return tables.REVISION
    try:
        command.upgrade(configuration(connection), "head")
    except CommandError as error:
        raise StoreSchemaMismatch(f"the database cannot be upgraded: {error}", needed=tables.REVISION) from error
    return tables.REVISION
