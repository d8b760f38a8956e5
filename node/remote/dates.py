"""Every way a date is written, as patterns on folded text (:func:`models.folding.fold`)."""

from __future__ import annotations

import re
from datetime import date

_YEAR = "january february march april may june july august september october november december"
_MONTHS = _YEAR.split()
# First year less one, name, letter (PS3.5 knows none of them; the law of the land does).
_ERAS = ((1867, "明治", "m"), (1911, "大正", "t"), (1925, "昭和", "s"), (1988, "平成", "h"), (2018, "令和", "r"))
_KANJI = "〇一二三四五六七八九"


def patterns(value: date) -> list[str]:
    """Regular expressions, one for each form.

    Parameters
    ----------
    value : datetime.date
    """
    year, short, month, day = value.year, f"{value.year % 100:02d}", value.month, value.day
    m, d, sep = f"0?{month}", f"0?{day}", r"\s*[-/._,\s]\s*"
    name = rf"{_MONTHS[month - 1][:3]}(?:{_MONTHS[month - 1][3:]}|t)?\.?"
    nth = rf"{d}(?:st|nd|rd|th)?"
    found = [
        rf"(?<!\d){year}{month:02d}{day:02d}",
        rf"(?<!\d)(?:{year}|{short}){sep}{m}{sep}{d}(?!\d)",
        rf"(?<!\d){d}{sep}{m}{sep}(?:{year}|'?{short})(?!\d)",
        rf"(?<!\d){m}{sep}{d}{sep}(?:{year}|'?{short})(?!\d)",
        rf"(?<!\d){day:02d}{month:02d}{year}(?!\d)",
        rf"(?<!\d){month:02d}{day:02d}{year}(?!\d)",
        rf"(?<!\d){nth}[\s\-./]*(?:of\s+)?{name}(?![a-z])",
        rf"(?<![a-z]){name}[\s\-./]*{nth}(?!\d)",
        rf"(?<!\d){m}\s*月\s*{d}\s*日",
        rf"{_kanji(month)}月{_kanji(day)}日",
    ]
    for before, era, letter in _ERAS:
        if before < year <= before + 70:
            n = year - before
            written = f"(?:0?{n}|元)" if n == 1 else f"0?{n}"
            found.append(rf"(?:{era}|(?<![a-z]){letter})\s*{written}\s*[-/.年]\s*{m}\s*[-/.月]\s*{d}(?!\d)")
    return found


def parse(text: str) -> date | None:
    """Date of a DA or DT value; None where it is none."""
    found = re.match(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})", text.strip())
    if not found:
        return None
    try:
        return date(*map(int, found.groups()))
    except ValueError:
        return None


def _kanji(number: int) -> str:
    tens, ones = divmod(number, 10)
    return ("" if not tens else "十" if tens == 1 else f"{_KANJI[tens]}十") + (_KANJI[ones] if ones else "")
