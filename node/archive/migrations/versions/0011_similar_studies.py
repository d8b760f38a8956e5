"""Index of similar studies of this site.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
# Nothing an older version knows is touched: see `ainode db downgrade`.
reversible = True

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "similar_embeddings",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_similar_embeddings")),
        sa.UniqueConstraint("study_key", "model_digest", name=op.f("uq_similar_embeddings_study_key_model_digest")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_similar_embeddings_model_digest"), "similar_embeddings", ["model_digest"])
    op.create_index(op.f("ix_similar_embeddings_expires_at"), "similar_embeddings", ["expires_at"])


def downgrade() -> None:
    """Take away what this revision brought; what it held is lost."""
    op.drop_table("similar_embeddings")
