"""What is known of studies beside their images: evidence, orders, rhythm of senders, what archives list."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, Index, Integer, String, Table, Text, UniqueConstraint

from node.archive.tables.schema import Serial, metadata

# What others say belongs to a study: node/archive/evidence.py.
evidence = Table(
    "evidence",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("source", String(16), nullable=False),  # name of node.arrival.Source
    Column("reference", String(64), nullable=False),  # UID of step, notification or transaction; name of an archive
    Column("study_uid", String(64), nullable=False),  # empty where it names none
    Column("status", String(16), nullable=False, default=""),  # of a performed step
    Column("named", JSON, nullable=False, default=dict),  # series UID: SOP Instance UIDs, or a number of instances
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("accession_number", Text, nullable=False, default=""),
    Column("at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("source", "reference", "study_uid"),
    Index(None, "study_uid"),
    sqlite_autoincrement=True,
)

# Every event that arrival took into account, so that a replay decides the same: node/archive/history.py.
arrival_events = Table(
    "arrival_events",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("study_uid", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("seconds", Float, nullable=False),  # monotonic
    Column("kind", String(32), nullable=False),
    Column("content", JSON, nullable=False, default=dict),
    Index(None, "study_uid", "id"),
    Index(None, "at"),
    sqlite_autoincrement=True,
)

# How senders pause: one row for each association that brought images of a study.
rhythms = Table(
    "rhythms",
    metadata,
    Column("association_id", String(36), primary_key=True),
    Column("study_uid", String(64), primary_key=True),
    Column("calling_ae_title", String(16), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("within_seconds", Float, nullable=False),  # longest gap between two images of it
    Column("after_seconds", Float, nullable=False),  # from its end to the study's next image; 0: there was none
    Column("at", Float, nullable=False),
    Index(None, "calling_ae_title", "modality", "at"),
)

# Entries of the worklist: studies that are expected. node/archive/orders.py.
orders = Table(
    "orders",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("source", String(64), nullable=False),  # name of the worklist
    Column("entry_key", String(64), nullable=False),  # SHA-256 over what names the scheduled step
    Column("study_uid", String(64), nullable=False, default=""),
    Column("accession_number", Text, nullable=False, default=""),
    Column("patient_id", Text, nullable=False, default=""),
    Column("modality", String(16), nullable=False, default=""),
    Column("starts_at", Float),  # scheduled, seconds since the epoch
    Column("content", JSON, nullable=False),  # node.orders.Order
    Column("first_seen_at", Float, nullable=False),
    Column("last_seen_at", Float, nullable=False),
    Column("gone_at", Float),  # since when the worklist does not name it any more
    Column("priors", JSON),  # what became of fetching earlier studies; null: not begun
    UniqueConstraint("source", "entry_key"),
    Index(None, "study_uid"),
    Index(None, "accession_number"),
    Index(None, "starts_at"),
    sqlite_autoincrement=True,
)

# Storage Commitment asked of this node, where it answers.
commitment_requests = Table(
    "commitment_requests",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("calling_ae_title", String(16), nullable=False),
    Column("named", JSON, nullable=False),  # [SOP class UID, SOP Instance UID]
    Column("requested_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("answered_at", Float),
    Column("committed", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("message", Text),
)

# Studies as archives list them: what was seen, and what is to be fetched. node/archive/archive_studies.py.
archive_studies = Table(
    "archive_studies",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("archive", String(64), nullable=False),  # name of the destination
    Column("study_uid", String(64), nullable=False),
    Column("accession_number", Text, nullable=False, default=""),
    Column("starts_at", Float),  # Study Date and Time, seconds since the epoch
    Column("instances", Integer),  # as listed last, results included
    Column("seen_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),  # since when the archive has had so many
    Column("compared", Integer),  # the number of instances at which it was last held against what is here
    Column("finding", String(16), nullable=False, default=""),  # node.listed.Finding
    Column("state", String(16), nullable=False, default=""),  # empty, waiting, fetching, done, failed
    Column("purpose", String(16), nullable=False, default=""),  # reconcile, watch, backfill
    Column("method", String(8), nullable=False, default="auto"),
    Column("priority", Integer, nullable=False, default=2),  # node.jobs.queue.Priority
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("claimed_at", Float),
    Column("message", Text),
    UniqueConstraint("archive", "study_uid"),
    Index(None, "state", "priority", "id"),
    Index(None, "study_uid"),
    Index(None, "accession_number"),
    sqlite_autoincrement=True,
)
