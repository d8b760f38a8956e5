"""What HL7 v2 messages said."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, Index, String, Table, Text, UniqueConstraint

from node.archive.tables.schema import Serial, metadata

# HL7 v2 messages that were accepted, so that one sent again does nothing twice. node/archive/hl7_messages.py.
hl7_messages = Table(
    "hl7_messages",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("sender", Text, nullable=False),  # MSH-3 and MSH-4
    Column("control_id", Text, nullable=False),  # MSH-10
    Column("digest", String(64), nullable=False),  # SHA-256 of the message
    Column("kind", String(16), nullable=False),  # MSH-9, as ADT^A40
    Column("received_at", Float, nullable=False),
    UniqueConstraint("sender", "control_id", "digest"),
    Index(None, "received_at"),
    sqlite_autoincrement=True,
)

# What HL7 v2 says of patients: merged into another one, or other demographics. node/archive/patient_changes.py.
patient_changes = Table(
    "patient_changes",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),  # merge, update
    Column("patient_id", Text, nullable=False),  # as the images have it: of a merge the one that is given up
    Column("issuer", Text, nullable=False, default=""),
    Column("to_patient_id", Text, nullable=False, default=""),  # of a merge the one that stays
    Column("content", JSON, nullable=False),  # attributes that hold now, by keyword
    Column("source", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index(None, "patient_id", "id"),
    Index(None, "to_patient_id"),
    sqlite_autoincrement=True,
)

# Reports that were signed: what comes later comes too late for them. node/archive/signed_reports.py.
signed_reports = Table(
    "signed_reports",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("accession_number", Text, nullable=False),
    Column("study_uid", String(64), nullable=False, default=""),
    Column("signed_at", Float, nullable=False),
    Column("source", Text, nullable=False),
    Column("received_at", Float, nullable=False),
    UniqueConstraint("accession_number", "study_uid"),
    Index(None, "study_uid"),
    sqlite_autoincrement=True,
)
