"""Studies in pages, the latest news first, with filters. A page costs the same however many studies there are."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from node.archive.tables import studies
from node.errors import UsageError
from node.web.overview import StudyLine, needs_somebody_condition, study_lines

LONGEST_PAGE = 200


@dataclass(frozen=True, slots=True)
class StudyFilter:
    """What a list of studies shows; empty: everything.

    Attributes
    ----------
    state : str
        ``waiting``, ``provisional`` or ``complete``.
    accession : str
        The whole accession number, or a Study Instance UID.
    since, until : float or None
        Last image within this time, seconds since the epoch.
    """

    state: str = ""
    accession: str = ""
    since: float | None = None
    until: float | None = None
    held: bool | None = None
    needs_somebody: bool = False


@dataclass(frozen=True, slots=True)
class StudyPage:
    """Some studies, and where the next page begins (empty: there is none)."""

    lines: list[StudyLine]
    following: str


def study_page(connection: Connection, wanted: StudyFilter, *, after: str = "", limit: int = 50) -> StudyPage:
    """One page.

    Parameters
    ----------
    after : str
        ``following`` of the page before.

    Raises
    ------
    UsageError
        ``after`` is none.
    """
    statement = select(studies.c.study_uid, studies.c.last_at).where(*_conditions(wanted))
    if after:
        last_at, uid = _position(after)
        statement = statement.where(
            or_(studies.c.last_at < last_at, and_(studies.c.last_at == last_at, studies.c.study_uid > uid))
        )
    limit = min(max(limit, 1), LONGEST_PAGE)
    ordered = statement.order_by(studies.c.last_at.desc(), studies.c.study_uid).limit(limit + 1)
    rows = connection.execute(ordered).all()
    following = f"{rows[limit - 1].last_at!r}:{rows[limit - 1].study_uid}" if len(rows) > limit else ""
    return StudyPage(study_lines(connection, [row.study_uid for row in rows[:limit]]), following)


def _conditions(wanted: StudyFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.state:
        found.append(studies.c.state == wanted.state)
    if accession := wanted.accession.strip():
        found.append(or_(studies.c.accession_number == accession, studies.c.study_uid == accession))
    if wanted.since is not None:
        found.append(studies.c.last_at >= wanted.since)
    if wanted.until is not None:
        found.append(studies.c.last_at < wanted.until)
    if wanted.held is not None:
        found.append(studies.c.held_reason.is_not(None) if wanted.held else studies.c.held_reason.is_(None))
    if wanted.needs_somebody:
        found.append(needs_somebody_condition())
    return found


def _position(after: str) -> tuple[float, str]:
    at, _, uid = after.partition(":")
    try:
        return float(at), uid
    except ValueError:
        raise UsageError("after: take it from the page before as it is") from None
