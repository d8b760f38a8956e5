"""Versions of results: what each destination takes, and which run took the place of which.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create what results need beyond their first version."""
    op.create_table(
        "capabilities",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("table", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_capabilities")),
    )
    op.add_column("jobs", sa.Column("kind", sa.String(length=16), server_default="run", nullable=False))
    op.add_column("jobs", sa.Column("parent_id", sa.BigInteger(), nullable=True))
    op.add_column("deliveries", sa.Column("replaced_by", sa.BigInteger(), nullable=True))
    op.create_table(
        "assessments",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("source_uid", sa.String(length=64), nullable=False),
        sa.Column("source_path", sa.Text(), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["sop_instance_uid"],
            ["objects.sop_instance_uid"],
            name=op.f("fk_assessments_sop_instance_uid_objects"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assessments")),
        sa.UniqueConstraint(
            "sop_instance_uid", "source_uid", "kind", name=op.f("uq_assessments_sop_instance_uid_source_uid_kind")
        ),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """There is no way back: restore the copy made before the upgrade."""
    raise NotImplementedError("restore the backup made before the upgrade")
