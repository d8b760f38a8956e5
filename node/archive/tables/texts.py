"""Calls of remote models, and the site's own reports."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text, UniqueConstraint

from node.archive.tables.schema import Serial, metadata

# Calls and tokens of a day at an endpoint of [remote]. node/archive/remote_usage.py.
remote_usage = Table(
    "remote_usage",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("endpoint", String(64), nullable=False),
    Column("day", String(10), nullable=False),  # by the site's clock
    Column("calls", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    UniqueConstraint("endpoint", "day"),
    sqlite_autoincrement=True,
)

# Reports of this site, de-identified when they were taken in. node/archive/report_corpus.py.
corpus_reports = Table(
    "corpus_reports",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("digest", String(64), nullable=False),  # SHA-256 of the text as it is kept
    Column("language", String(8), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("body_part", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("added_at", Float, nullable=False),
    UniqueConstraint("digest"),
    Index(None, "modality", "language"),
    sqlite_autoincrement=True,
)
