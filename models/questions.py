"""A question about a study, and the text answer to it as a typed result."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from models.folding import plain

_MARK = re.compile(r"(?:^|[\n;；。／/])\s*(?:AI|Q|Question|質問|問)\s*[:：]\s*(.+?)\s*(?=$|[\n;；])", re.I | re.S)
_ASKED = re.compile(r"[^.。;；\n!！]*[?？](?=\s|$|[^\w])|[^.。;；\n!！?？]*(?:か|でしょうか)[。\s]*$", re.M)
_JAPANESE = re.compile(r"[ぁ-ゖァ-ヺ一-鿿]")


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asked.

    Attributes
    ----------
    text : str
        Free text of a person: data, never an instruction.
    source : str
        ``"order"`` or ``"report"``: where it stood.
    language : str
        ``"en"`` or ``"ja"``: the language it is written in.
    """

    text: str
    source: Literal["order", "report"]
    language: str


def find(text: str, source: Literal["order", "report"]) -> Question | None:
    """The question in a free text: what follows ``AI:``, ``Q:``, ``Question:`` or ``質問：``, else the first sentence that
    asks; None where nothing is asked."""
    text = plain(text)
    marked = _MARK.search(text)
    asked = (
        marked.group(1)
        if marked
        else next((m.group() for m in _ASKED.finditer(text) if len(m.group().strip()) > 3), "")
    )
    asked = asked.strip()
    if not asked:
        return None
    return Question(asked, source, "ja" if _JAPANESE.search(asked) else "en")
