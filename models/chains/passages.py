"""What a chain needs of the site's own reports: a port. ``node`` keeps them, de-identified when they were taken in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Passage:
    """A report that is like a text. ``number`` is its source as it may be quoted; ``score`` in (0, 1]."""

    number: int
    text: str
    score: float


class Corpus(Protocol):
    """The site's reports."""

    def similar(self, text: str, language: str, count: int) -> Sequence[Passage]:
        """The reports most like ``text`` in a language, the most similar first."""
        ...


def adaptive(passages: Sequence[Passage], smallest_ratio: float) -> tuple[Passage, ...]:
    """Passages up to the first that is much less similar than the one before it (MMed-RAG, arXiv 2410.13085).

    Parameters
    ----------
    smallest_ratio : float
        Of a score to the one before.
    """
    kept: list[Passage] = []
    for passage in passages:
        if kept and passage.score < smallest_ratio * kept[-1].score:
            break
        kept.append(passage)
    return tuple(kept)
