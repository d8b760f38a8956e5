"""What archives list and is to be fetched; HL7 v2 messages, changes of patients, signed reports.

Revision ID: 0008
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
reversible = True


def upgrade() -> None:
    """Add tables."""
    op.create_table(
        "archive_studies",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("archive", sa.String(length=64), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.Float(), nullable=True),
        sa.Column("instances", sa.Integer(), nullable=True),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("compared", sa.Integer(), nullable=True),
        sa.Column("finding", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("claimed_at", sa.Float(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archive_studies")),
        sa.UniqueConstraint("archive", "study_uid", name=op.f("uq_archive_studies_archive_study_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_archive_studies_accession_number"), "archive_studies", ["accession_number"], unique=False)
    op.create_index(
        op.f("ix_archive_studies_state_priority_id"), "archive_studies", ["state", "priority", "id"], unique=False
    )
    op.create_index(op.f("ix_archive_studies_study_uid"), "archive_studies", ["study_uid"], unique=False)
    op.create_table(
        "hl7_messages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("control_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hl7_messages")),
        sa.UniqueConstraint("sender", "control_id", "digest", name=op.f("uq_hl7_messages_sender_control_id_digest")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_hl7_messages_received_at"), "hl7_messages", ["received_at"], unique=False)
    op.create_table(
        "patient_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("to_patient_id", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_changes")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_patient_changes_patient_id_id"), "patient_changes", ["patient_id", "id"], unique=False)
    op.create_index(op.f("ix_patient_changes_to_patient_id"), "patient_changes", ["to_patient_id"], unique=False)
    op.create_table(
        "signed_reports",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("signed_at", sa.Float(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signed_reports")),
        sa.UniqueConstraint("accession_number", "study_uid", name=op.f("uq_signed_reports_accession_number_study_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_signed_reports_study_uid"), "signed_reports", ["study_uid"], unique=False)
    op.create_index(op.f("ix_instances_patient_id"), "instances", ["patient_id"], unique=False)


def downgrade() -> None:
    """Drop the tables; what they held is lost."""
    op.drop_index(op.f("ix_instances_patient_id"), table_name="instances")
    for name in ("signed_reports", "patient_changes", "hl7_messages", "archive_studies"):
        op.drop_table(name)
