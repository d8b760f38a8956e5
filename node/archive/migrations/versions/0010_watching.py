"""Runs of the canary; positions of readers of the ledger.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
# Nothing an older version knows is touched: see `ainode db downgrade`.
reversible = True


def upgrade() -> None:
    """Add tables."""
    op.create_table(
        "canary_runs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("begun_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("cleaned_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_canary_runs")),
        sa.UniqueConstraint("study_uid", name=op.f("uq_canary_runs_study_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_canary_runs_begun_at"), "canary_runs", ["begun_at"])
    op.create_table(
        "ledger_readers",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ledger_readers")),
    )


def downgrade() -> None:
    """Take away what this revision brought; what it held is lost."""
    op.drop_table("ledger_readers")
    op.drop_table("canary_runs")
