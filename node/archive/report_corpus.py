"""The site's own reports to look things up in: de-identified when they are taken in, never pushed, quoted by number."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator

from sqlalchemy import Connection, delete, func, select

from models.chains.passages import Passage
from models.folding import fold, plain
from models.identifying_text import without_identifiers
from models.output_guard import faults
from node.archive.tables import corpus_reports
from node.archive.upsert import insert_missing

_REMOVED = "[…]"


def deidentified(text: str) -> str | None:
    """A report as it may be kept: without whatever looks like a name, number, date or address of somebody.

    Returns
    -------
    str or None
        None where something of the kind is left all the same: such a report is not taken in.
    """
    kept = without_identifiers(plain(text), _REMOVED)
    kept = re.sub(rf"(?:{re.escape(_REMOVED)}\s*){{2,}}", _REMOVED, kept).strip()
    left = [each for each in faults(kept.replace(_REMOVED, " ")) if each.startswith("holds")]
    return None if left or not kept else kept


def add(
    connection: Connection, now: float, text: str, *, language: str, modality: str = "", body_part: str = ""
) -> bool:
    """Take a report in; False where it cannot be de-identified, or is there already."""
    kept = deidentified(text)
    if kept is None:
        return False
    values = {
        "digest": hashlib.sha256(kept.encode("utf-8")).hexdigest(),
        "language": language,
        "modality": modality,
        "body_part": body_part,
        "text": kept,
        "added_at": now,
    }
    return insert_missing(connection, corpus_reports, values, unique=["digest"]) is not None


def remove(connection: Connection, number: int) -> bool:
    """Forget a report; False where there is none of this number."""
    return bool(connection.execute(delete(corpus_reports).where(corpus_reports.c.id == number)).rowcount)


def count(connection: Connection) -> int:
    """How many reports there are."""
    return int(connection.execute(select(func.count()).select_from(corpus_reports)).scalar_one())


def similar(connection: Connection, text: str, *, language: str, count: int) -> list[Passage]:
    """The reports most like a text, the most similar first: cosine of word counts, in Japanese of pairs of characters.

    Parameters
    ----------
    text : str
    language : str
        Of the reports.
    count : int
        At most so many.
    """
    wanted = Counter(_terms(text))
    rows = connection.execute(
        select(corpus_reports.c.id, corpus_reports.c.text).where(corpus_reports.c.language == language)
    )
    scored = [
        Passage(row.id, row.text, score) for row in rows if (score := _cosine(wanted, Counter(_terms(row.text)))) > 0
    ]
    return sorted(scored, key=lambda each: (-each.score, each.number))[:count]


def _terms(text: str) -> Iterator[str]:
    folded = fold(text)
    for run in re.findall(r"[a-z]+|[ぁ-ゖ一-鿿ー]+", folded):
        if run.isascii():
            yield run
        else:
            yield from (run[at : at + 2] for at in range(max(1, len(run) - 1)))


def _cosine(one: Counter[str], other: Counter[str]) -> float:
    shared = sum(one[term] * other[term] for term in one.keys() & other.keys())
    if not shared:
        return 0.0
    lengths = [sum(value * value for value in each.values()) ** 0.5 for each in (one, other)]
    return float(shared / (lengths[0] * lengths[1]))
