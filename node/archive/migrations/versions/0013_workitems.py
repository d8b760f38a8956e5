"""Workitems of others that this node performs.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
# Nothing an older version knows is touched: see `ainode db downgrade`.
reversible = True


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "workitems",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("claimed_at", sa.Float(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("cancel_asked_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("uid", "source", name=op.f("pk_workitems")),
    )
    op.create_index(op.f("ix_workitems_state"), "workitems", ["state"], unique=False)
    op.create_index(op.f("ix_workitems_study_uid"), "workitems", ["study_uid"], unique=False)


def downgrade() -> None:
    """Take away what this revision brought; what it held is lost."""
    op.drop_table("workitems")
