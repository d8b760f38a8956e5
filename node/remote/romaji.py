"""Kana in Latin letters, as names are written: Hepburn and Kunrei, long vowels written, left out or with an h."""

from __future__ import annotations

import re

from models.folding import fold

_ROWS = {
    "": "あいうえお",
    "k": "かきくけこ",
    "s": "さしすせそ",
    "t": "たちつてと",
    "n": "なにぬねの",
    "h": "はひふへほ",
    "m": "まみむめも",
    "r": "らりるれろ",
    "g": "がぎぐげご",
    "z": "ざじずぜぞ",
    "d": "だぢづでど",
    "b": "ばびぶべぼ",
    "p": "ぱぴぷぺぽ",
}
_KUNREI = {kana: f"{row}{vowel}" for row, line in _ROWS.items() for kana, vowel in zip(line, "aiueo", strict=True)}
_KUNREI |= {"や": "ya", "ゆ": "yu", "よ": "yo", "わ": "wa", "を": "o", "ん": "n", "ぢ": "zi", "づ": "zu", "ゔ": "vu"}
_SMALL = {"ゃ": "ya", "ゅ": "yu", "ょ": "yo"}
_HEPBURN = (
    ("sy", "sh"),
    ("ty", "ch"),
    ("zy", "j"),
    ("si", "shi"),
    ("ti", "chi"),
    ("tu", "tsu"),
    ("hu", "fu"),
    ("zi", "ji"),
)


def romaji(kana: str) -> frozenset[str]:
    """Ways to write a name given in kana; empty where it holds anything but kana."""
    kana = fold(kana).replace(" ", "")
    if not kana or re.search(r"[^ぁ-ゖー]", kana):
        return frozenset()
    kunrei = ""
    doubled = False
    for character in kana:
        if character == "っ":
            doubled = True
            continue
        if character == "ー":
            kunrei += kunrei[-1:]
            continue
        sound = _SMALL.get(character) or _KUNREI.get(character, "")
        if character in _SMALL and kunrei.endswith("i"):
            kunrei, sound = kunrei[:-1], sound
        kunrei += sound[:1] + sound if doubled else sound
        doubled = False
    hepburn = kunrei
    for old, new in _HEPBURN:
        hepburn = hepburn.replace(old, new)
    hepburn = hepburn.replace("cch", "tch")
    forms = {kunrei, hepburn, re.sub(r"n(?=[bmp])", "m", hepburn)}
    forms |= {re.sub("ou|oo", "o", form).replace("uu", "u") for form in forms}
    forms |= {re.sub("ou|oo", "oh", form) for form in forms}
    return frozenset(forms)
