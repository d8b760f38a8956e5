"""Entry point of Alembic: the caller brings an open connection inside a transaction."""

from __future__ import annotations

from alembic import context

from node.archive import text_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=text_tables.metadata,
    # SQLite's DDL is transactional once the driver's own transaction handling is off, as it is in engine.py.
    transactional_ddl=True,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
