"""The ledger."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table, text

from node.archive.tables.schema import Serial, metadata

ledger = Table(
    "ledger",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", String(48), nullable=False),
    Column("study_uid", String(64)),
    Column("job_id", BigInteger),
    Column("sop_instance_uid", String(64)),
    Column("detail", JSON, nullable=False, default=dict),
    Column("sequence", BigInteger, unique=True),  # set by the sealer, without gaps
    Column("seal", String(64)),  # SHA-256(previous seal, this row); set by the sealer
    Index(None, "study_uid", "id"),
    Index(None, "job_id"),
    Index(None, "sop_instance_uid"),
    sqlite_autoincrement=True,
)

# What people did is looked for by itself, among many more rows about images. The words of the condition are those of the
# search: SQLite uses the index only where they are the same.
BY_PEOPLE = "kind >= 'person.' AND kind < 'person/'"
Index("ix_ledger_people", ledger.c.id, sqlite_where=text(BY_PEOPLE), postgresql_where=text(BY_PEOPLE))

# One row: what the sealer wrote last. Rows cut off the end of the ledger leave an unbroken chain; this row misses them.
ledger_head = Table(
    "ledger_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("seal", String(64), nullable=False),
)
