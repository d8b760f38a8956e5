"""Tables of what watches the node: runs of the canary, and how far readers of the ledger have come."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, String, Table, Text

from node.archive.tables.schema import Serial, metadata

# Phantom studies that go the whole way: node/canary/runs.py.
canary_runs = Table(
    "canary_runs",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("study_uid", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),  # node.canary.runs.CanaryState
    Column("begun_at", Float, nullable=False),
    Column("ended_at", Float),
    Column(
        "stage", String(16), nullable=False, default=""
    ),  # where it failed: send, arrival, run, delivery, commitment
    Column("message", Text),
    Column("cleaned_at", Float),  # since when nothing of it is here any more
    Index(None, "begun_at"),
    sqlite_autoincrement=True,
)

# Who reads the chained ledger and hands it on: the position outlives a restart, so nothing is lost and nothing skipped.
ledger_readers = Table(
    "ledger_readers",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("sequence", BigInteger, nullable=False),  # the last sealed row that was handed on
    Column("at", Float, nullable=False),
)
