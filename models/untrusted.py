"""Free text of others as data: orders, reports, text SR. Marked, shortened, and without the signs that models act on."""

from __future__ import annotations

import re

from models.folding import plain

LONGEST = 1500
"""Characters; more is cut off."""
_SIGNS = str.maketrans({"<": "‹", ">": "›", "`": "'", "{": "(", "}": ")", "[": "(", "]": ")", "|": "/", "#": " "})


def as_data(text: str) -> str:
    """``text`` so that nothing in it can be taken for a tool call, a template field or a turn of the conversation."""
    text = plain(text)[:LONGEST].translate(_SIGNS)
    text = re.sub(r"(?im)^\s*(system|assistant|user|developer|tool)\s*[:：]", r"(\1) ", text)
    return re.sub(r"\s*\n\s*", " / ", text).strip()
