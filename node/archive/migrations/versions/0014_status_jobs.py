"""Jobs of kind "status": an older version does not know them.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
# Nothing an older version knows is lost: see `ainode db downgrade`.
reversible = True

_jobs = sa.table("jobs", sa.column("id"), sa.column("kind"), sa.column("state"), sa.column("lease_owner"))
_deliveries = sa.table(
    "deliveries", sa.column("replaced_by"), sa.column("state"), sa.column("message"), sa.column("sent_at")
)
_UNTOLD = sa.select(_jobs.c.id).where(_jobs.c.kind == "status", _jobs.c.state != "done")


def upgrade() -> None:
    """No table changes: the kind is a new value of a column."""


def downgrade() -> None:
    """Let go the status objects that were held back for a status which is not made, and end what an older version cannot."""
    held = (
        (_deliveries.c.replaced_by.in_(_UNTOLD))
        & (_deliveries.c.state == "withdrawn")
        & _deliveries.c.sent_at.is_(None)
    )
    op.execute(_deliveries.update().where(held).values(state="queued", replaced_by=None, message=None))
    ended = (_jobs.c.kind == "status") & _jobs.c.state.in_(["queued", "running", "dead", "failed"])
    op.execute(_jobs.update().where(ended).values(state="cancelled", lease_owner=None))
