"""What generated text says, as typed values: an answer, a choice, boxes."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
# "A pleural effusion" and "type B dissection" choose nothing: a letter before a word is an article or a name.
_CHOICE = re.compile(
    r"(?i:\b(?:answer|option|choice)(?:\s+is)?\s*[:：]?\s*)\(?([A-Z])\b|\b([A-Z])\b(?!['’])(?!\s+(?!or\b|and\b)[a-z])"
)
_BOX = re.compile(
    r"\[\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*\]"
)
_LOCATED = re.compile(r"([^<]*)((?:<loc_\d+>){4,})")
_SPECIAL = re.compile(r"</?s>|<pad>")
_LOCATION = re.compile(r"<loc_(\d+)>")


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """A box in parts of the picture's width and height, 0 to 1: left, top, right, bottom."""

    label: str
    left: float
    top: float
    right: float
    bottom: float


def answer_of(text: str) -> str | None:
    """What stands between ``<answer>`` tags, the last time; None where nothing does."""
    found = _ANSWER.findall(text)
    return found[-1].strip() if found else None


def choice_of(text: str, choices: str) -> str | None:
    """The one letter of ``choices`` the answer names; None where it names none, or several."""
    said = {one or other for one, other in _CHOICE.findall(answer_of(text) or text)} & set(choices)
    return said.pop() if len(said) == 1 else None


def boxes_of(text: str, scale: float) -> list[LabelledBox]:
    """Boxes written ``[left, top, right, bottom]`` in units of which ``scale`` make the whole side."""
    return [box for each in _BOX.findall(text) if (box := _box("", [float(v) / scale for v in each])) is not None]


def located_of(text: str, bins: int = 1000) -> list[LabelledBox]:
    """Boxes written as four location tokens each behind their label: Florence-2's, the middle of each of ``bins`` bins."""
    boxes = []
    for label, places in _LOCATED.findall(_SPECIAL.sub("", text)):
        values = [(int(v) + 0.5) / bins for v in _LOCATION.findall(places)]
        for start in range(0, len(values) - 3, 4):
            box = _box(_words(label), values[start : start + 4])
            if box is not None:
                boxes.append(box)
    return boxes


def _words(label: str) -> str:
    return re.sub(r"\s+", " ", label).strip(" .,;:")


def _box(label: str, values: list[float]) -> LabelledBox | None:
    """None where it has no extent or lies outside: such a box means nothing."""
    left, top, right, bottom = values
    if not (0 <= left < right <= 1 + 1e-9 and 0 <= top < bottom <= 1 + 1e-9):
        return None
    return LabelledBox(label, left, top, min(right, 1.0), min(bottom, 1.0))
