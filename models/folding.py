"""One spelling of text for comparing: width, case, accents, kana, variant characters, invisible characters.

Used to look for names and numbers in text, never to change text that anybody reads.
"""

from __future__ import annotations

import unicodedata

_VARIANTS = str.maketrans(
    "髙﨑𠮷邊邉齋齊齎濱澤廣國櫻嶋嶌瀨德惠眞彌龍冨舘", "高崎吉辺辺斎斎斎浜沢広国桜島島瀬徳恵真弥竜富館"
)
"""Forms of characters in Japanese names that stand for each other."""
_LETTERS = {ord("ø"): "o", ord("đ"): "d", ord("ł"): "l", ord("æ"): "ae", ord("œ"): "oe"}
_KATAKANA, _HIRAGANA = (0x30A1, 0x30F6), 0x60
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−﹘﹣－", "-"))


def plain(text: str) -> str:
    """NFKC without invisible characters: what a reader sees, in one width. Case and kana stay."""
    text = unicodedata.normalize("NFKC", text).translate(_DASHES)
    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc", "Co", "Cn") or c in "\n\t")


def fold(text: str) -> str:
    """:func:`plain`, lower case, Latin letters without accents, katakana as hiragana, variants as the common form."""
    folded = []
    for character in plain(text).translate(_VARIANTS).casefold():
        code = ord(character)
        if _KATAKANA[0] <= code <= _KATAKANA[1]:
            folded.append(chr(code - _HIRAGANA))
        elif 0xC0 <= code < 0x250 or 0x1E00 <= code < 0x1F00:
            bare = unicodedata.normalize("NFD", character)
            folded.append("".join(c for c in bare if unicodedata.category(c) != "Mn"))
        else:
            folded.append(character)
    return "".join(folded).translate(_LETTERS)
