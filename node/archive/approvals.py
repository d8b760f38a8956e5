"""Which version of a model may serve, and who said so.

A model that did not come with this product serves only once a named person has approved its very files and accepted its
licence. Changed files are another digest, and need approval again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from node.archive import ledger
from node.archive.tables import model_approvals

__all__ = ["approve", "before", "current", "listed", "revoke"]


def approve(
    connection: Connection, now: float, *, model_id: str, version: str, digest: str, by: str, licence: str
) -> None:
    """Let these files serve under this name; an earlier approval of other files ends with it."""
    _end(connection, now, model_id, by)
    connection.execute(
        insert(model_approvals).values(
            model_id=model_id, version=version, digest=digest, approved_by=by, approved_at=now, licence=licence
        )
    )
    ledger.record(
        connection,
        now,
        ledger.Kind.MODEL_APPROVED,
        model=model_id,
        version=version,
        digest=digest,
        by=by,
        licence=licence,
    )


def revoke(connection: Connection, now: float, *, model_id: str, by: str) -> bool:
    """Take the approval back; False where there was none."""
    if not _end(connection, now, model_id, by):
        return False
    ledger.record(connection, now, ledger.Kind.MODEL_REVOKED, model=model_id, by=by)
    return True


def current(connection: Connection) -> dict[str, str]:
    """Model id → digest of the files that may serve."""
    rows = connection.execute(
        select(model_approvals.c.model_id, model_approvals.c.digest).where(model_approvals.c.revoked_at.is_(None))
    )
    return {row.model_id: row.digest for row in rows}


def before(connection: Connection, model_id: str) -> str | None:
    """Digest of the files that those took over from that are approved now, or were until their approval was taken back.

    Going back does not count as taking over, so going back again leads further back. Files whose approval a person took back
    are nothing to go back to.
    """
    line: list[str] = []
    rows = list(reversed(listed(connection, model_id)))
    for row, following in zip_longest(rows, rows[1:]):
        line = line[: line.index(row.digest)] if row.digest in line else line
        # An approval that another one ended has ended at that very moment.
        taken_back = row.revoked_at is not None and (following is None or row.revoked_at != following.approved_at)
        if not taken_back:
            line.append(row.digest)
    standing = current(connection).get(model_id)
    return next((each for each in reversed(line) if each != standing), None)


def listed(connection: Connection, model_id: str | None = None) -> Sequence[Row[Any]]:
    """Every approval there ever was, newest first."""
    query = select(model_approvals).order_by(model_approvals.c.id.desc())
    return connection.execute(query if model_id is None else query.where(model_approvals.c.model_id == model_id)).all()


def _end(connection: Connection, now: float, model_id: str, by: str) -> int:
    standing = (model_approvals.c.model_id == model_id) & model_approvals.c.revoked_at.is_(None)
    return connection.execute(update(model_approvals).where(standing).values(revoked_at=now, revoked_by=by)).rowcount
