"""Every text is readable in the character set its object names, byte by byte (PS3.5 6.1.2).

Looked at in the bytes themselves, because a toolkit that reads what it wrote forgives what another reader does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from dicom_sr.character_set import NOTATION, SAME_CHARACTER
from dicom_sr.checks.subject import Subject
from dicom_sr.profile import Profile
from dicom_sr.rendering import kind_of

_TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_CODED_ONLY = frozenset({"seg", "parametric_map"})
"""Kinds whose sequences hold nothing but coded terms and, for 100 segments, a great many of them."""

_UNREADABLE = "\ufffd"
_BASIC = ["ISO 2022 IR 6", "ISO 2022 IR 87"]
_ALLOWED = {"utf-8": (["ISO_IR 192"],), "iso-2022-jp": (_BASIC, [*_BASIC, "ISO 2022 IR 13"])}
_ASCII, _KANJI, _KATAKANA = b"\x1b(B", b"\x1b$B", b"\x1b)I"
_ESCAPE = re.compile(rb"(\x1b[()$][@A-Z])")


def carried(text: str, profile: Profile) -> str:
    """A text of the source as an object for ``profile`` carries it."""
    if profile.character_set == "utf-8" or text.isascii():
        return text
    table = {**NOTATION, **SAME_CHARACTER, **dict(profile.character_replacements)}
    return "".join(c if _is_japanese(c) else table.get(c, c) for c in text)


def _is_japanese(character: str) -> bool:
    """ASCII, JIS X 0208 or half-width katakana; asked of another codec than the writer uses."""
    try:
        encoded = character.encode("euc_jp")
    except UnicodeEncodeError:
        return False
    # 0x8F introduces JIS X 0212, 0x8E the katakana of JIS X 0201; EUC has the yen sign and overline at ASCII places.
    return character.isascii() or (len(encoded) == 2 and encoded[0] >= 0x8E)


def check_characters(subject: Subject) -> Iterator[str]:
    """The character set is the destination's, and every text obeys it strictly."""
    for role, content in subject.files:
        dataset = dcmread(BytesIO(content), stop_before_pixels=True)
        named = dataset.get("SpecificCharacterSet", "")
        terms = [named] if isinstance(named, str) else [str(term) for term in named]
        if terms not in _ALLOWED[subject.profile.character_set]:
            yield f"{role}: the character set is not the destination's"
            continue
        wrong = {
            f"{role}: a text ({tag}) is not in its character set"
            for tag, value in _raw_texts(dataset, with_items=kind_of(role) not in _CODED_ONLY)
            if not _is_encoded(value, terms)
        }
        yield from sorted(wrong)


def _raw_texts(dataset: Dataset, *, with_items: bool) -> Iterator[tuple[str, bytes]]:
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement) and element.VR in _TEXTS and element.value:
            yield str(element.tag), element.value
        elif with_items and element is not None and element.VR == "SQ":
            for item in dataset[tag].value:
                yield from _raw_texts(item, with_items=True)


def _is_encoded(value: bytes, terms: list[str]) -> bool:
    if terms == ["ISO_IR 192"]:
        try:
            return _UNREADABLE not in value.decode("utf-8")
        except UnicodeDecodeError:
            return False
    return _is_iso_2022(value, katakana="ISO 2022 IR 13" in terms)


def _is_iso_2022(value: bytes, *, katakana: bool) -> bool:
    """Whether a value begins and ends in ASCII and switches as PS3.5 6.1.2.5 lets it."""
    is_kanji = has_katakana = False
    for part in _ESCAPE.split(value):
        if part in (_ASCII, _KANJI):
            is_kanji = part == _KANJI
        elif part == _KATAKANA and katakana:
            has_katakana = True
        elif is_kanji:
            if not _is_kanji(part):
                return False
        elif b"\x1b" in part or not all(b < 0x80 or (has_katakana and 0xA1 <= b <= 0xDF) for b in part):
            return False
    return not is_kanji


def _is_kanji(part: bytes) -> bool:
    try:
        (b"\x1b$B" + part + b"\x1b(B").decode("iso2022_jp")
    except UnicodeDecodeError:
        return False
    return len(part) % 2 == 0 and all(0x21 <= b <= 0x7E for b in part)
