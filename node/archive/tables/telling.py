"""Who is told what about results."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from node.archive.tables.schema import Serial, metadata

# What somebody is told about: one for each study, routing rule and notify rule, however many runs say it.
alerts = Table(
    "alerts",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("study_uid", String(64), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("notify", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # node.notify.states.AlertState
    Column("job_id", Serial, ForeignKey("jobs.id"), nullable=False),  # the latest run that says it
    Column("facts", JSON, nullable=False),  # node.notify.facts.ResultFacts
    Column("level", Integer, nullable=False, default=0),  # steps of the escalation chain taken
    Column("escalate_at", Float),
    Column("opened_at", Float, nullable=False),
    Column("acknowledged_at", Float),
    Column("acknowledged_by", String(128)),
    UniqueConstraint("study_uid", "rule", "notify"),
    Index(None, "state", "escalate_at"),
    sqlite_autoincrement=True,
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("key", String(64), nullable=False, unique=True),  # what makes it the same notification
    Column("control_id", String(20), nullable=False, unique=True),  # its name on the wire, the same in each attempt
    Column("alert_id", Serial, ForeignKey("alerts.id")),  # null: availability of instances
    Column("job_id", Serial, ForeignKey("jobs.id"), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("channel", String(80), nullable=False),
    Column("event", String(16), nullable=False),  # node.notify.states.Event
    Column("content", JSON, nullable=False),  # what is said, frozen
    Column("digest", String(64), nullable=False),  # SHA-256 over what matters of the content
    Column("state", String(16), nullable=False),  # node.notify.states.NotificationState
    Column("priority", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("message", Text),
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("outdated", Boolean, nullable=False, default=False),  # it carries an identity that was corrected since
    Index(None, "channel", "state", "not_before"),
    Index(None, "alert_id"),
    Index(None, "job_id"),
    sqlite_autoincrement=True,
)
