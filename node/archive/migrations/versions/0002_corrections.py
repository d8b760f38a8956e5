"""Corrections: which copy of an instance counts, which runs took one that does not any more, who has their results.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_IDENTITY = (
    "patient_id",
    "issuer_of_patient_id",
    "patient_name",
    "patient_birth_date",
    "accession_number",
)


def upgrade() -> None:
    """Add columns, and say of the copies there are which one counts."""
    op.add_column("studies", sa.Column("corrected_at", sa.Float(), nullable=True))
    op.add_column("instances", sa.Column("active", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("instances", sa.Column("corrected_at", sa.Float(), nullable=True))
    op.add_column("instances", sa.Column("superseded_at", sa.Float(), nullable=True))
    op.add_column("jobs", sa.Column("superseded_at", sa.Float(), nullable=True))
    op.add_column("deliveries", sa.Column("outdated", sa.String(length=16), nullable=True))
    _choose_active()
    op.create_index(
        "uq_instances_active",
        "instances",
        ["sop_instance_uid"],
        unique=True,
        sqlite_where=sa.column("active") == sa.true(),
        postgresql_where=sa.column("active") == sa.true(),
    )


def _choose_active() -> None:
    """As it was chosen at every look until now: the first copy, unless a later one says another identity.

    Of copies in several studies the latest counts.
    """
    names = ("id", "sop_instance_uid", "study_uid", *_IDENTITY)
    instances = sa.table("instances", *(sa.column(name) for name in names), sa.column("active", sa.Boolean()))
    connection = op.get_bind()
    connection.execute(sa.update(instances).values(active=sa.true()))
    several = (
        sa.select(instances.c.sop_instance_uid)
        .group_by(instances.c.sop_instance_uid)
        .having(sa.func.count() > 1)
        .scalar_subquery()
    )
    copies = sa.select(instances).where(instances.c.sop_instance_uid.in_(several)).order_by(instances.c.id)
    chosen: dict[str, sa.Row] = {}
    rows = connection.execute(copies).all()
    for row in rows:
        before = chosen.get(row.sop_instance_uid)
        if before is None or any(getattr(row, name) != getattr(before, name) for name in ("study_uid", *_IDENTITY)):
            chosen[row.sop_instance_uid] = row
    for row in rows:
        if chosen[row.sop_instance_uid].id != row.id:
            connection.execute(sa.update(instances).where(instances.c.id == row.id).values(active=sa.false()))


def downgrade() -> None:
    """There is no way back: restore the copy made before the upgrade."""
    raise NotImplementedError("restore the backup made before the upgrade")
