"""What leaves: deliveries, their proof, and what destinations take."""

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

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", String(64), ForeignKey("objects.sop_instance_uid"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # node.delivery.outbox.DeliveryState
    Column("priority", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("status", Integer),  # last DIMSE status
    Column("message", Text),
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("proven_at", Float),
    Column("transaction_uid", String(64)),
    Column("outdated", String(16)),  # the destination has, or may have, an old identity: open, settled
    # An attempt ended without an answer: the destination is asked whether it has the object before it is sent again.
    Column("in_doubt", Boolean, nullable=False, default=False, server_default=false()),
    Column("proof", String(16)),  # node.delivery.delivery_states.Proven; null: none yet
    Column("proof_asked", Integer, nullable=False, default=0, server_default="0"),  # commitments nobody answered
    Column("looked", Integer, nullable=False, default=0, server_default="0"),  # queries that did not find it
    Column("ask_at", Float, nullable=False, default=0.0, server_default="0"),  # when to ask for proof next
    Column("sent_syntax_uid", String(64)),  # transfer syntax it was sent in, where not the frozen one
    Column("replaced_by", BigInteger),  # the job whose set took its place at this destination
    UniqueConstraint("sop_instance_uid", "destination"),
    Index(None, "destination", "state", "not_before"),
    Index(None, "transaction_uid"),
    Index(None, "state", "id"),
    sqlite_autoincrement=True,
)

commitments = Table(
    "commitments",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("destination", String(64), nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("answered_at", Float),
    Column("outcome", String(16)),  # committed, failed, expired
)

# What a destination said it takes when it was asked last: {"storage": {SOP Class UID: [Transfer Syntax UID, …]},
# "charset": …, "refused": [SOP Class UID, …]}.
capabilities = Table(
    "capabilities",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("asked_at", Float, nullable=False),
    Column("table", JSON, nullable=False),
)
