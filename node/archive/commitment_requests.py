"""Storage commitment that modalities ask of this node: what was asked, and what it was answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from node.archive.tables import commitment_requests
from node.archive.upsert import insert_missing


def take(
    connection: Connection,
    now: float,
    *,
    transaction_uid: str,
    calling_ae_title: str,
    named: Sequence[tuple[str, str]],
    wait_seconds: float,
) -> None:
    """Enter a request; the same transaction again changes nothing.

    Parameters
    ----------
    named : sequence of (str, str)
        SOP class and instance UIDs.
    wait_seconds : float
        Until what the archive has not got by then is answered as failed.
    """
    insert_missing(
        connection,
        commitment_requests,
        {
            "transaction_uid": transaction_uid,
            "calling_ae_title": calling_ae_title[:16],
            "named": [list(each) for each in named],
            "requested_at": now,
            "due_at": now + wait_seconds,
            "committed": 0,
            "failed": 0,
        },
        unique=["transaction_uid"],
    )


def unanswered(connection: Connection, limit: int = 20) -> list[Row[Any]]:
    """Requests without an answer, oldest first."""
    statement = select(commitment_requests).where(commitment_requests.c.answered_at.is_(None))
    return list(connection.execute(statement.order_by(commitment_requests.c.requested_at).limit(limit)))


def answered(
    connection: Connection, now: float, transaction_uid: str, *, committed: int, failed: int, message: str | None = None
) -> None:
    """Note what was answered."""
    chosen = commitment_requests.c.transaction_uid == transaction_uid
    values = {"answered_at": now, "committed": committed, "failed": failed, "message": message}
    connection.execute(update(commitment_requests).where(chosen).values(**values))


def put_off(connection: Connection, transaction_uid: str, message: str) -> None:
    """Note why no answer has gone out yet."""
    chosen = commitment_requests.c.transaction_uid == transaction_uid
    connection.execute(update(commitment_requests).where(chosen).values(message=message))
