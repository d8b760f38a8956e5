"""Probabilities as words, by table: the form in which a language model is told what a classifier found."""

from __future__ import annotations

from collections.abc import Sequence

from models.phrases_general_ja import TERMS
from models.results import Finding

# Upper bound (exclusive), words before the term in English, words after it in Japanese.
TABLES: dict[str, tuple[tuple[float, str, str], ...]] = {
    # ChatCAD (arXiv 2302.07257; zhaozh10/ChatCAD@5f0773c), the "illustrative" prompt.
    "chatcad": (
        (0.2, "No sign of", "の徴候はない"),
        (0.5, "Small possibility of", "の可能性は低い"),
        (0.9, "Patient is likely to have", "が疑われる"),
        (float("inf"), "Definitely have", "を認める"),
    ),
}


def in_words(findings: Sequence[Finding], table: str, language: str) -> str:
    """One sentence for each finding, in its order.

    Parameters
    ----------
    table : str
        One of :data:`TABLES`.
    language : str
        ``"en"`` or ``"ja"``.
    """
    rows = TABLES[table]
    sentences = []
    for finding in findings:
        _, before, after = next(row for row in rows if finding.probability < row[0])
        term = finding.concept.meaning
        sentences.append(f"{TERMS.get(term, term)}{after}。" if language == "ja" else f"{before} {term}.")
    return ("" if language == "ja" else " ").join(sentences)
