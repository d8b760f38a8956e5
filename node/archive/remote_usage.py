"""Calls and tokens of a day at an endpoint: counted before a call leaves, so that a restart forgets none."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from models.remote_errors import BudgetSpent
from node.archive.tables import remote_usage
from node.archive.upsert import insert_missing


def reserve(connection: Connection, endpoint: str, day: str, *, calls: int, tokens: int) -> None:
    """Count one more call.

    Parameters
    ----------
    day : str
        ``YYYY-MM-DD`` by the site's clock.
    calls, tokens : int
        What the day may hold.

    Raises
    ------
    BudgetSpent
        It holds that already. Nothing was counted.
    """
    insert_missing(
        connection,
        remote_usage,
        {"endpoint": endpoint, "day": day, "calls": 0, "tokens": 0},
        unique=["endpoint", "day"],
    )
    ours = (remote_usage.c.endpoint == endpoint) & (remote_usage.c.day == day)
    room = (remote_usage.c.calls < calls) & (remote_usage.c.tokens < tokens)
    taken = connection.execute(update(remote_usage).where(ours, room).values(calls=remote_usage.c.calls + 1)).rowcount
    if not taken:
        made, used = of_day(connection, endpoint, day)
        raise BudgetSpent(
            f"endpoint {endpoint}: {made} of {calls} calls and {used} of {tokens} tokens of {day} are used"
        )


def add_tokens(connection: Connection, endpoint: str, day: str, tokens: int) -> None:
    """Count what a call cost."""
    ours = (remote_usage.c.endpoint == endpoint) & (remote_usage.c.day == day)
    connection.execute(update(remote_usage).where(ours).values(tokens=remote_usage.c.tokens + tokens))


def of_day(connection: Connection, endpoint: str, day: str) -> tuple[int, int]:
    """Calls and tokens of a day."""
    row = connection.execute(
        select(remote_usage.c.calls, remote_usage.c.tokens).where(
            remote_usage.c.endpoint == endpoint, remote_usage.c.day == day
        )
    ).one_or_none()
    return (0, 0) if row is None else (row.calls, row.tokens)
