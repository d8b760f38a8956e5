"""Runs the migrations on a connection whose transaction the caller holds."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text

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


def known(revision: str) -> bool:
    """Whether this version has a migration to this revision."""
    return revision in {script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()}


def way_back(revision: str) -> list[str]:
    """Revisions that a downgrade from the newest to ``revision`` takes back, newest first.

    Raises
    ------
    StoreSchemaMismatch
        There is no such revision, or one of them cannot be taken back (``reversible`` in its script).
    """
    scripts = ScriptDirectory.from_config(configuration())
    if not known(revision):
        raise StoreSchemaMismatch(f"there is no revision {revision}; there are {', '.join(_revisions(scripts))}")
    taken_back = list(scripts.iterate_revisions("head", revision))
    if fixed := [each.revision for each in taken_back if not getattr(each.module, "reversible", False)]:
        raise StoreSchemaMismatch(
            f"revision {fixed[0]} cannot be taken back: restore the copy that was made before the upgrade"
        )
    return [each.revision for each in taken_back]


def lowest_reachable() -> str:
    """The oldest revision that a downgrade can go to; the newest where none can."""
    scripts = ScriptDirectory.from_config(configuration())
    for script in scripts.walk_revisions():
        if not getattr(script.module, "reversible", False):
            return str(script.revision)
    raise AssertionError("the first revision leads nowhere")


def downgrade(connection: Connection, revision: str) -> list[str]:
    """Take back every revision after ``revision``; what only newer versions recorded is lost. Returns them.

    Raises
    ------
    StoreSchemaMismatch
        See :func:`way_back`; or the database is not at this version's revision.
    """
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    if found == [revision]:
        return []
    if found != [tables.REVISION]:
        raise StoreSchemaMismatch(f"the database has revision {', '.join(found)}, not {tables.REVISION}")
    taken_back = way_back(revision)
    command.downgrade(configuration(connection), revision)
    return taken_back


def _revisions(scripts: ScriptDirectory) -> list[str]:
    return sorted(script.revision for script in scripts.walk_revisions())


def upgrade(connection: Connection) -> str:
    """Apply what is missing and return the revision reached.

    Raises
    ------
    StoreSchemaMismatch
        The database has a revision this version does not know: a newer version made it.
    """
    try:
        command.upgrade(configuration(connection), "head")
    except CommandError as error:
        raise StoreSchemaMismatch(f"the database cannot be upgraded: {error}", needed=tables.REVISION) from error
    return tables.REVISION
