"""Workitems of others that this node performs."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, Index, String, Table, Text

from node.archive.tables.schema import metadata

# Claimed workitems, kept until their end has been told. node/archive/workitems.py.
workitems = Table(
    "workitems",
    metadata,
    Column("uid", String(64), primary_key=True),
    Column("source", String(64), primary_key=True),  # name of the manager
    Column("transaction_uid", String(64), nullable=False),  # the claim's lock: never logged, never shown
    Column("state", String(16), nullable=False),  # node.archive.workitems.ClaimState
    Column("content", JSON, nullable=False),  # code, label, inputs, rules, as claimed
    Column("study_uid", String(64), nullable=False, default=""),
    Column("claimed_at", Float, nullable=False),
    Column("told", Text, nullable=False, default=""),  # progress the manager was told last
    Column("cancel_asked_at", Float),
    Column("ended_at", Float),
    Column("message", Text),
    Index(None, "state"),
    Index(None, "study_uid"),
)
