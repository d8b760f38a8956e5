"""What was received: associations, studies, instances, and earlier studies fetched."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)

from node.archive.tables.schema import Serial, metadata

associations = Table(
    "associations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("ending", String(16)),  # released, aborted, lost
    Column("instances", Integer, nullable=False, default=0),
)

studies = Table(
    "studies",
    metadata,
    Column("study_uid", String(64), primary_key=True),
    Column("state", String(16), nullable=False, default="waiting"),  # waiting, provisional, complete
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    Column("evaluated_at", Float, nullable=False, default=0.0),
    Column("due_at", Float),  # when arrival wants to look again; null: only on news
    Column("arrival", JSON, nullable=False, default=dict),  # arrival.State, serialised
    Column("held_reason", Text),
    Column("released_at", Float),
    Column("corrected_at", Float),  # last time an image of it got another patient, order or study
    Column("patient_id", Text, nullable=False, default=""),
    Column("accession_number", Text, nullable=False, default=""),
    Index(None, "due_at"),
    Index(None, "accession_number"),
    Index(None, "last_at"),
)

# Few are held, and they stand first on the console's first page.
Index(
    "ix_studies_held",
    studies.c.last_at,
    sqlite_where=studies.c.held_reason.is_not(None),
    postgresql_where=studies.c.held_reason.is_not(None),
)

instances = Table(
    "instances",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of the data-set bytes as received
    Column("size", BigInteger, nullable=False),
    Column("path", Text, nullable=False),  # relative to the spool
    Column("received_at", Float, nullable=False),
    Column("association_id", String(36)),
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("called_ae_title", String(16), nullable=False, default=""),
    Column("ours", Boolean, nullable=False, default=False),  # produced by this node: filed, nothing run
    # Somebody edited an object of this node: its Contributing Equipment names us, its General Equipment does not.
    Column("derived", Boolean, nullable=False, default=False, server_default=false()),
    Column("modality", String(16), nullable=False, default=""),
    Column("patient_id", Text, nullable=False, default=""),
    Column("issuer_of_patient_id", Text, nullable=False, default=""),
    Column("patient_name", Text, nullable=False, default=""),
    Column("patient_birth_date", Text, nullable=False, default=""),
    Column("accession_number", Text, nullable=False, default=""),
    Column("headers", JSON, nullable=False, default=dict),  # what routing matches on; see node/archive/headers.py
    # The copy that counts; a copy that says something else about patient, order or study takes its place.
    Column("active", Boolean, nullable=False, default=True, server_default=false()),
    Column("corrected_at", Float),  # when it took the place of another copy
    Column("superseded_at", Float),  # when another copy took its place
    UniqueConstraint("sop_instance_uid", "digest"),
    Index(None, "study_uid", "id"),
    Index(None, "series_uid"),
    Index(None, "association_id"),
    Index(None, "patient_id"),
    sqlite_autoincrement=True,
)

# Whatever receivers do at the same time: of one SOP Instance UID one copy counts, in one study.
Index(
    "uq_instances_active",
    instances.c.sop_instance_uid,
    unique=True,
    sqlite_where=instances.c.active == true(),
    postgresql_where=instances.c.active == true(),
)

# Earlier studies' instances, in a space of their own: nothing runs on them. node/archive/priors.py.
priors = Table(
    "priors",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("sop_class_uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("patient_id", Text, nullable=False, default=""),
    Column("issuer_of_patient_id", Text, nullable=False, default=""),
    Column("modality", String(16), nullable=False, default=""),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("path", Text, nullable=False),  # relative to the folder of priors
    Column("received_at", Float, nullable=False),
    Column("headers", JSON, nullable=False, default=dict),
    Index(None, "study_uid"),
    Index(None, "patient_id"),
    Index(None, "received_at"),
)

# C-MOVE and C-GET of this node: what comes for them is no study to run on.
retrievals = Table(
    "retrievals",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("study_uid", String(64), nullable=False),  # the study retrieved
    Column("series_uid", String(64), nullable=False, default=""),  # empty: all of it
    Column("peer", String(64), nullable=False),
    Column("method", String(8), nullable=False),  # move, get
    Column("order_id", BigInteger),
    Column("begun_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("completed", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("message", Text),
    Index(None, "study_uid"),
    sqlite_autoincrement=True,
)
