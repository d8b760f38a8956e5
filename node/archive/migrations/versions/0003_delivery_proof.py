"""Delivery: doubt, kinds of proof, what was sent, pauses, retention; and objects derived from this node's own.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and the table of pauses, and say of the deliveries there are what is known."""
    op.add_column("instances", sa.Column("derived", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("objects", sa.Column("removed_at", sa.Float(), nullable=True))
    op.add_column("deliveries", sa.Column("in_doubt", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("deliveries", sa.Column("proof", sa.String(length=16), nullable=True))
    op.add_column("deliveries", sa.Column("proof_asked", sa.Integer(), server_default="0", nullable=False))
    op.add_column("deliveries", sa.Column("looked", sa.Integer(), server_default="0", nullable=False))
    op.add_column("deliveries", sa.Column("ask_at", sa.Float(), server_default="0", nullable=False))
    op.add_column("deliveries", sa.Column("sent_syntax_uid", sa.String(length=64), nullable=True))
    op.create_table(
        "pauses",
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "name", name="pk_pauses"),
    )
    _say_what_is_known()


def _say_what_is_known() -> None:
    """Committed was proven by commitment; whatever had no answer, ever, may be there."""
    names = (sa.column("state", sa.String()), sa.column("proof", sa.String()), sa.column("in_doubt", sa.Boolean()))
    deliveries = sa.table("deliveries", *names)
    connection = op.get_bind()
    committed = deliveries.c.state == "committed"
    connection.execute(sa.update(deliveries).where(committed).values(proof="commitment"))
    open_ends = deliveries.c.state.in_(["unknown", "sending"])
    connection.execute(sa.update(deliveries).where(open_ends).values(in_doubt=sa.true()))


def downgrade() -> None:
    """There is no way back: restore the copy made before the upgrade."""
    raise NotImplementedError("restore the backup made before the upgrade")
