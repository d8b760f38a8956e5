"""Free text without what names anybody: the study's own values in every spelling, and whatever looks like such a value.

Scrubbing comes before the proof (:mod:`node.remote.proof`) and does not replace it.
"""

from __future__ import annotations

import re

from models.folding import fold, plain
from models.identifying_text import identifiers
from models.remote_errors import IdentityInRequest
from node.remote.identity_values import IdentityValues

REMOVED = "[removed]"
_PASSES = 4


def scrub(text: str, identity: IdentityValues) -> str:
    """``text`` in one width, with what identifies somebody replaced by ``[removed]``.

    Raises
    ------
    IdentityInRequest
        Something of the kind is found however often it is removed.
    """
    text = plain(text)
    for _ in range(_PASSES):
        spans = _spans(text, identity)
        if not spans:
            return re.sub(rf"(?:{re.escape(REMOVED)}[\s,、。・^]*){{2,}}", f"{REMOVED} ", text).strip()
        for start, end in reversed(_merged(spans)):
            text = f"{text[:start]}{REMOVED}{text[end:]}"
    raise IdentityInRequest("free text cannot be freed of what identifies somebody")


def _spans(text: str, identity: IdentityValues) -> list[tuple[int, int]]:
    spans = [(each.start, each.end) for each in identifiers(text)]
    folded, places = _folded(text)
    for _, pattern in identity.patterns:
        spans += [(places[m.start()], places[m.end() - 1] + 1) for m in pattern.finditer(folded) if m.end() > m.start()]
    return spans


def _folded(text: str) -> tuple[str, list[int]]:
    """Folded text, and for each of its characters the place in ``text`` it comes from."""
    folded, places = [], []
    for place, character in enumerate(text):
        for each in fold(character) or ("" if character not in "\n\t" else character):
            folded.append(each)
            places.append(place)
    return "".join(folded), places


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
