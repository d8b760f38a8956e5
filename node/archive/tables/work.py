"""Runs, what they made, and what people made of it."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from node.archive.tables.schema import Serial, metadata

jobs = Table(
    "jobs",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("study_uid", String(64), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("model_id", String(128), nullable=False),
    Column("input_key", String(64), nullable=False),  # SHA-256 over the study's instances as given to the job
    Column("run", Integer, nullable=False, default=1),
    Column("priority", Integer, nullable=False),  # node.jobs.queue.Priority: 0 stat … 3 off-peak
    Column("state", String(16), nullable=False),  # queued, running, done, failed, dead, cancelled
    Column("attempts", Integer, nullable=False, default=0),
    Column("maximum_attempts", Integer, nullable=False),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("lease_owner", String(64)),
    Column("lease_until", Float),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("shadow", Boolean, nullable=False, default=False),
    Column("specification", JSON, nullable=False),  # node.jobs.specification.JobSpec without what is looked up at start
    Column("result", JSON),  # summary of the typed result
    Column("error_code", String(16)),
    Column("message", Text),
    Column("superseded_at", Float),  # an image it took was corrected: nothing of it leaves any more
    Column("kind", String(16), nullable=False, default="run", server_default="run"),  # node.jobs.queue.JobKind
    Column("parent_id", BigInteger),  # the run whose result it writes anew, or takes back
    # Queued before its study was complete; a run that takes more supersedes it.
    Column("provisional", Boolean, nullable=False, default=False, server_default=false()),
    UniqueConstraint("study_uid", "rule", "input_key", "run"),
    Index(None, "state", "priority", "id"),
    sqlite_autoincrement=True,
)

objects = Table(
    "objects",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("sop_class_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("job_id", Serial, ForeignKey("jobs.id"), nullable=False),
    Column("role", String(32), nullable=False),
    Column("profile", String(64), nullable=False),
    Column("path", Text, nullable=False),  # relative to the outbox folder
    Column("digest", String(64), nullable=False),  # SHA-256 of the whole file
    Column("size", BigInteger, nullable=False),
    Column("frozen_at", Float, nullable=False),
    Column("removed_at", Float),  # when retention removed the local copy; every destination was proven to have it
    Index(None, "job_id"),
    Index(None, "study_uid"),
)

# What a radiologist, or the archive for one, made of an object of ours: a rejection note, an edited copy, a verified report.
assessments = Table(
    "assessments",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False),  # node.assessments.AssessmentKind
    Column("sop_instance_uid", String(64), ForeignKey("objects.sop_instance_uid"), nullable=False),
    Column("source_uid", String(64), nullable=False),  # SOP Instance UID of what said so
    Column("source_path", Text, nullable=False),  # relative to the spool
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("reason", String(64), nullable=False, default=""),  # coded: "113001 DCM"
    UniqueConstraint("sop_instance_uid", "source_uid", "kind"),
    sqlite_autoincrement=True,
)

# One row for each approval; the one that is not revoked counts.
model_approvals = Table(
    "model_approvals",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("model_id", String(128), nullable=False),
    Column("version", String(64), nullable=False),
    Column("digest", String(64), nullable=False),  # Model.digest: card and every pinned file
    Column("approved_by", String(128), nullable=False),
    Column("approved_at", Float, nullable=False),
    Column("licence", Text, nullable=False),  # as accepted
    Column("revoked_at", Float),
    Column("revoked_by", String(128)),
    Index(None, "model_id"),
    sqlite_autoincrement=True,
)

# What an operator has stopped; a row goes when it is resumed, the ledger keeps both.
pauses = Table(
    "pauses",
    metadata,
    Column("scope", String(16), primary_key=True),  # node.archive.pauses.Scope: model, rule, destination, all
    Column("name", String(128), primary_key=True),  # empty for "all"
    Column("reason", Text, nullable=False),
    Column("by", String(64), nullable=False),
    Column("since", Float, nullable=False),
)
