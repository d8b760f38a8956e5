"""What the worklist says is coming, what has come of it, and what the node intends for it. Shows no patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from node.archive import orders
from node.archive.tables import studies
from node.intentions import intended, procedure_words
from node.orders import Order
from node.settings import Settings

LATE_SECONDS = 3600.0
_PAGE = 400


@dataclass(frozen=True, slots=True)
class Expectation:
    """One entry of a worklist.

    Attributes
    ----------
    state : str
        ``expected``, ``overdue``, ``gone`` from the worklist, or ``arrived``.
    study_state : str
        State of the study that has come; empty where none has.
    intends : tuple of str
        Rules that fit the order.
    """

    order: Order
    row: Row[Any]
    state: str
    study_state: str
    study_uid: str
    procedure: str
    intends: tuple[str, ...]

    @property
    def station(self) -> str:
        """Name of the station, else its AE title."""
        return self.order.station_name or self.order.station_ae_title


def expectations(
    connection: Connection, now: float, since: float, until: float, settings: Settings, *, limit: int | None = None
) -> list[Expectation]:
    """Entries that are to start within a time, in its order."""
    rows = orders.between(connection, since, until)[:limit]
    come = _come(connection, rows)
    return [_expectation(row, come, now, settings) for row in rows]


def _come(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, Any]:
    """Studies that have come, by their UID and by accession number."""
    come: dict[str, Any] = {}
    for start in range(0, len(rows), _PAGE):
        page = rows[start : start + _PAGE]
        uids = [row.study_uid for row in page if row.study_uid]
        numbers = [row.accession_number for row in page if row.accession_number]
        chosen = or_(studies.c.study_uid.in_(uids), studies.c.accession_number.in_(numbers))
        statement = select(studies.c.study_uid, studies.c.accession_number, studies.c.state).where(chosen)
        for found in connection.execute(statement):
            come[f"uid {found.study_uid}"] = found
            if found.accession_number:
                come[f"number {found.accession_number}"] = found
    return come


def _expectation(row: Row[Any], come: dict[str, Any], now: float, settings: Settings) -> Expectation:
    order = Order.from_dict(row.content)
    found = come.get(f"uid {row.study_uid}") or come.get(f"number {row.accession_number or '-'}")
    if found is not None:
        state = "arrived"
    elif row.gone_at is not None:
        state = "gone"
    else:
        late = row.starts_at is not None and row.starts_at < now - LATE_SECONDS
        state = "overdue" if late else "expected"
    return Expectation(
        order,
        row,
        state,
        found.state if found is not None else "",
        found.study_uid if found is not None else order.study_uid,
        procedure_words(order, language=settings.node.language, parts=settings.node.jj1017_parts),
        tuple(intended(order, settings.rule)),
    )
