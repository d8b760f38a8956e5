"""What a destination takes, as it said itself: stored when it is asked, looked up when a set of objects is planned.

A destination is asked by ``ainode verify-peer``. What it refuses afterwards, at send time, is added to the answer, so
that the next study is written at once as what it takes; asking it anew forgets the refusals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select, update

from node.archive.tables import capabilities

__all__ = ["Capabilities", "of", "refuse", "store"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Answer of one destination.

    Attributes
    ----------
    asked_at : float
        Seconds since the epoch; 0 where it was never asked.
    storage : mapping
        SOP Class UID → Transfer Syntax UIDs accepted for it. Empty where it was never asked.
    charset : str or None
        Character set the destination shows, where somebody knows.
    refused : frozenset of str
        What it refused a presentation context for since it was asked: a SOP Class UID, or where it was compressed one and,
        after a space, a Transfer Syntax UID.
    """

    asked_at: float = 0.0
    storage: Mapping[str, Sequence[str]] = field(default_factory=dict)
    charset: str | None = None
    refused: frozenset[str] = frozenset()

    def takes(self, sop_class_uid: str, transfer_syntax_uid: str | None = None) -> bool:
        """Whether objects of a class can go there: not where it said no; what it was never asked for may be tried."""
        if sop_class_uid in self.refused or f"{sop_class_uid} {transfer_syntax_uid}" in self.refused:
            return False
        if not self.storage:
            return True
        accepted = self.storage.get(sop_class_uid, ())
        return bool(accepted) and (transfer_syntax_uid is None or transfer_syntax_uid in accepted)


def store(
    connection: Connection,
    now: float,
    destination: str,
    *,
    storage: Mapping[str, Sequence[str]],
    charset: str | None = None,
) -> None:
    """Keep what a destination answered, instead of whatever was known about it.

    Parameters
    ----------
    storage : mapping
        SOP Class UID → accepted Transfer Syntax UIDs, for every storage class it was asked about; a class it refused is
        left out or has an empty list.
    """
    table = {"storage": {uid: list(syntaxes) for uid, syntaxes in sorted(storage.items())}, "charset": charset}
    _put(connection, destination, asked_at=now, table=table)


def of(connection: Connection, destination: str) -> Capabilities:
    """What is known about a destination."""
    row = connection.execute(select(capabilities).where(capabilities.c.destination == destination)).one_or_none()
    if row is None:
        return Capabilities()
    known: Mapping[str, Any] = row._mapping["table"]
    return Capabilities(
        asked_at=row.asked_at,
        storage=known.get("storage", {}),
        charset=known.get("charset"),
        refused=frozenset(known.get("refused", ())),
    )


def refuse(connection: Connection, destination: str, what: Sequence[str]) -> bool:
    """Note what a destination refused presentation contexts for, as in :attr:`Capabilities.refused`; True where it is news."""
    known = of(connection, destination)
    refused = sorted(known.refused | set(what))
    if set(refused) == known.refused:
        return False
    table = {
        "storage": {uid: list(syntaxes) for uid, syntaxes in known.storage.items()},
        "charset": known.charset,
        "refused": refused,
    }
    _put(connection, destination, asked_at=known.asked_at, table=table)
    return True


def _put(connection: Connection, destination: str, *, asked_at: float, table: dict[str, Any]) -> None:
    chosen = capabilities.c.destination == destination
    if connection.execute(update(capabilities).where(chosen).values(asked_at=asked_at, table=table)).rowcount:
        return
    connection.execute(insert(capabilities).values(destination=destination, asked_at=asked_at, table=table))
