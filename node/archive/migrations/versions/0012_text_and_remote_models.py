"""Use of remote models by day; the site's de-identified reports.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
# Nothing an older version knows is touched: see `ainode db downgrade`.
reversible = True


def upgrade() -> None:
    """Add tables."""
    op.create_table(
        "remote_usage",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_remote_usage")),
        sa.UniqueConstraint("endpoint", "day", name=op.f("uq_remote_usage_endpoint_day")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "corpus_reports",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("modality", sa.String(length=16), nullable=False),
        sa.Column("body_part", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("added_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_corpus_reports")),
        sa.UniqueConstraint("digest", name=op.f("uq_corpus_reports_digest")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_corpus_reports_modality_language"), "corpus_reports", ["modality", "language"], unique=False
    )


def downgrade() -> None:
    """Take away what this revision brought; what it held is lost."""
    op.drop_table("corpus_reports")
    op.drop_table("remote_usage")
