"""Characters of an object: Unicode, or the Japanese sets of ISO 2022 for destinations that read nothing else (PS3.5 6.1).

A character that the destination's set lacks is written as the site's table says, or the object is refused. It never
becomes a question mark: a mutilated name is another person.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import config
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from dicom_sr.errors import CharacterUnencodable
from dicom_sr.profile import Profile

UTF_8 = "ISO_IR 192"
JAPANESE = ("ISO 2022 IR 6", "ISO 2022 IR 87")
HALF_WIDTH = "ISO 2022 IR 13"

_TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Value representations that Specific Character Set applies to (PS3.5 6.1.2.2)."""

SAME_CHARACTER = {
    "～": "〜",
    "－": "−",
    "∥": "‖",
    "￠": "¢",
    "￡": "£",
    "￢": "¬",
    "—": "―",
    "µ": "μ",
}
"""Where Unicode tables of vendors differ about one and the same character of JIS X 0208."""

NOTATION = {
    **{raised: str(n) for n, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    "⁻": "^-",
    "≥": ">=",
    "≤": "<=",
    "–": "-",
    "•": "・",
    "\u00a0": " ",
}
"""How units and numbers are written where raised figures are not to be had. Never in names."""

_SHOWN = 12
_PER_FRAME = 0x52009230
"""Per-frame Functional Groups Sequence: coded terms alone, and a great many of them."""
_ASCII, _KANJI, _KATAKANA = b"\x1b(B", b"\x1b$B", b"\x1b)I"
_DELIMITERS = {"PN": "^=\\", "LO": "\\", "SH": "\\", "UC": "\\"}


def fit(dataset: Dataset, profile: Profile) -> None:
    """Write the texts of ``dataset`` in the characters of ``profile`` and say so in Specific Character Set.

    Elements that are bytes already are left alone: nothing but coded terms is written that way.

    Raises
    ------
    CharacterUnencodable
        A text has a character that neither the set nor the site's table has. The code points are named, not the text.
    """
    if profile.character_set == "utf-8":
        dataset.SpecificCharacterSet = UTF_8
        return
    translate = _Translation(profile)
    texts = [(holder, element, _fitted(element, translate)) for holder, element in _texts(dataset)]
    if translate.missing:
        points = [f"U+{ord(character):04X}" for character in sorted(translate.missing)][:_SHOWN]
        count = len(translate.missing)
        raise CharacterUnencodable(
            f"{count} characters are not in {profile.character_set}: {', '.join(points)}", characters=points
        )
    terms = translate.terms
    for holder, element, fitted in texts:
        # pydicom takes IR 6 for Latin-1 and would write the ± of a text as a byte that the set does not have.
        values = [_encoded(each, element.VR, terms) for each in fitted]
        if any(value is not given for value, given in zip(values, _given(element), strict=True)):
            value = values if len(values) > 1 else values[0]
            holder[element.tag] = DataElement(element.tag, element.VR, value, validation_mode=config.IGNORE)
    dataset.SpecificCharacterSet = terms


def _given(element: DataElement) -> list[object]:
    return list(element.value) if isinstance(element.value, MultiValue | list) else [element.value]


def _fitted(element: DataElement, translate: _Translation) -> list[object]:
    """Values of the element that may be written; the very same objects where nothing had to change."""
    fitted = []
    for value in _given(element):
        text = str(value)
        translated = translate(text, element.VR)
        fitted.append(value if translated == text else translated)
    return fitted


def is_japanese(character: str) -> bool:
    """Whether ASCII, JIS X 0208 (IR 87) or the half-width katakana of JIS X 0201 (IR 13) have a character."""
    return character.isascii() or is_half_width(character) or _is_jis(character)


def is_half_width(character: str) -> bool:
    """Whether it is a half-width katakana (JIS X 0201, upper half)."""
    return "\uff61" <= character <= "\uff9f"


def _is_jis(character: str) -> bool:
    try:
        return character.encode("iso2022_jp").startswith(b"\x1b$B")
    except UnicodeEncodeError:
        return False


def _encoded(value: object, vr: str, terms: list[str]) -> object:
    """A text as the bytes that will be written; as it is where it is ASCII."""
    text = str(value)
    if text.isascii():
        return value
    encoded = iso_2022(text)
    return PersonName(encoded, convert_encodings(list(terms)), validation_mode=config.IGNORE) if vr == "PN" else encoded


def iso_2022(text: str) -> bytes:
    """Characters of IR 6, IR 87 and the katakana of IR 13, with the escapes between them (PS3.5 6.1.2.5).

    Every text begins and ends in ASCII, and so does every part of it between delimiters and line ends.
    """
    parts, state = [], _ASCII
    for character in text:
        wanted = _ASCII if character.isascii() else _KATAKANA if is_half_width(character) else _KANJI
        if wanted != state:
            parts.append(_ASCII if state == _KANJI and wanted == _KATAKANA else b"")
            parts.append(wanted)
            state = wanted
        parts.append(_code(character, wanted))
    if state != _ASCII:
        parts.append(_ASCII)
    return b"".join(parts)


def _code(character: str, state: bytes) -> bytes:
    if state == _ASCII:
        return character.encode("ascii")
    return character.encode("shift_jis") if state == _KATAKANA else character.encode("iso2022_jp")[3:5]


class _Translation:
    """Texts to Japanese characters; remembers what did not fit, and which sets were needed."""

    def __init__(self, profile: Profile) -> None:
        self._replacements = {**SAME_CHARACTER, **dict(profile.character_replacements)}
        self._half_width = False
        self.missing: set[str] = set()

    def __call__(self, text: str, vr: str) -> str:
        if text.isascii():
            return text
        return "".join(self._fitted(character, vr) for character in text)

    def _fitted(self, character: str, vr: str) -> str:
        if not is_japanese(character):
            replacement = self._replacement(character, vr)
            if not replacement:
                self.missing.add(character)
                return character
            character = replacement
        self._half_width = self._half_width or any(is_half_width(each) for each in character)
        return character

    def _replacement(self, character: str, vr: str) -> str:
        """What stands for a character; empty where nothing does, or what does would divide the value."""
        found = self._replacements.get(character, "") or ("" if vr == "PN" else NOTATION.get(character, ""))
        is_fit = all(is_japanese(each) and each not in _DELIMITERS.get(vr, "") for each in found)
        return found if is_fit else ""

    @property
    def terms(self) -> list[str]:
        """Values of Specific Character Set."""
        return [*JAPANESE, HALF_WIDTH] if self._half_width else list(JAPANESE)


def _texts(dataset: Dataset) -> Iterator[tuple[Dataset, DataElement]]:
    """Every text element below ``dataset`` with what holds it."""
    pending: list[Dataset] = [dataset]
    while pending:
        holder = pending.pop()
        for tag in list(holder.keys()):
            element = holder.get_item(tag)
            if isinstance(element, RawDataElement) or element is None or tag == _PER_FRAME:
                continue
            if element.VR == "SQ":
                pending.extend(element.value)
            elif element.VR in _TEXTS and element.value:
                yield holder, element
