"""Which objects of ours a reader, or an archive for one, has judged: those are never sent again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from node.archive.tables import assessments


def assessed(connection: Connection, sop_instance_uids: Sequence[str]) -> set[str]:
    """Those among ``sop_instance_uids`` that were rejected, deleted, edited or taken over by a reader."""
    statement = select(assessments.c.sop_instance_uid).where(
        assessments.c.sop_instance_uid.in_(list(sop_instance_uids))
    )
    return set(connection.execute(statement).scalars())
