"""Single values of a header that may break every rule, however the header was read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

# Diffusion b-value where the standard attribute is missing: group, element within the block, creator, make.
PRIVATE_B_VALUES = (
    (0x0019, 0x0C, "SIEMENS MR HEADER"),
    (0x0043, 0x39, "GEMS_PARM_01"),
    (0x2001, 0x03, "Philips Imaging DD 001"),
    (0x0065, 0x09, "Image Private Header"),  # United Imaging
)
PRIVATE_BLOCKS = (0x10, 0x11, 0x12)
_B_VALUE_PLACES = [
    (Tag(group, block), Tag(group, (block << 8) + element), creator.upper())
    for group, element, creator in PRIVATE_B_VALUES
    for block in PRIVATE_BLOCKS
]
# GE adds a multiple of 10^9 to the b-value to mark how it was computed.
_GE_B_VALUE_MODULUS = 1_000_000_000
# Siemens: "*ep_b1000t", "ep_b0", "re_b1000#4".
_SEQUENCE_NAME_B_VALUE = re.compile(r"(?:^|_)b(\d{1,5})(?:[#t_]|$)")


class HeaderValues(ABC):
    """Single values of a data set that may break every rule, however it was read.

    Attributes
    ----------
    unreadable : list of str
        Keys whose value could not be read.
    """

    def __init__(self) -> None:
        self.unreadable: list[str] = []

    @abstractmethod
    def raw(self, key: str | BaseTag) -> Any:
        """Text, number, bytes or a list of them; None where the element is absent, empty or unreadable."""

    @abstractmethod
    def codes(self, key: str) -> list[str]:
        """Code Value of every item of a code sequence."""

    @abstractmethod
    def in_items(self, key: str, keywords: tuple[str, ...]) -> list[list[str]]:
        """Clean text of some elements of every item of a sequence; empty where an item lacks one."""

    def text(self, key: str) -> str:
        """Value as clean text; several values are joined by a backslash."""
        return "\\".join(self.texts(key))

    def uid(self, key: str) -> str:
        """Value without padding, as it stands: what is no UID must not become one by cleaning."""
        value = self.raw(key)
        several = value if _is_several(value) else [value or ""]
        return "\\".join(str(item) for item in several).strip("\0 ")

    def texts(self, key: str) -> list[str]:
        """Every value as clean text."""
        return clean_texts(self.raw(key))

    def number(self, key: str | BaseTag) -> float | None:
        """First value as a number."""
        value = self.raw(key)
        if isinstance(value, bytes):
            value = value.split(b"\\")[0].decode("latin-1").strip("\0 ")
        elif value is not None and _is_several(value):
            value = value[0] if len(value) else None
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, ArithmeticError):
            self.unreadable.append(str(key))
            return None
        return number if abs(number) < 1e12 else None  # also turns away NaN and infinity, which JSON has no form for

    def numbers(self, key: str) -> list[float]:
        """Every value as a number; none where one of them is not."""
        value = self.raw(key)
        if value is None or isinstance(value, bytes):
            return []
        several = value if _is_several(value) else [value]
        try:
            numbers = [float(each) for each in several]
        except (TypeError, ValueError, ArithmeticError):
            self.unreadable.append(str(key))
            return []
        return numbers if all(abs(each) < 1e12 for each in numbers) else []

    def whole(self, key: str) -> int | None:
        """First value as a whole number."""
        number = self.number(key)
        return None if number is None else int(number)

    def b_value(self) -> tuple[float | None, bool]:
        """Diffusion b-value in s/mm2, and whether it stands in the standard attribute."""
        if (value := self.number("DiffusionBValue")) is not None:
            return value, True
        for block, place, creator in _B_VALUE_PLACES:
            owner = self.raw(block)
            if not isinstance(owner, str) or _clean(owner).upper() != creator:
                continue
            if (value := self.number(place)) is not None:
                return value % _GE_B_VALUE_MODULUS, False
        if found := _SEQUENCE_NAME_B_VALUE.search(self.text("SequenceName")):
            return float(found.group(1)), False
        return None, False


def clean_texts(value: Any) -> list[str]:
    """Every value as clean text; none for None."""
    if value is None:
        return []
    several = value if _is_several(value) else [value]
    return [_clean(item.decode("latin-1") if isinstance(item, bytes) else str(item)) for item in several]


def _is_several(value: object) -> bool:
    return isinstance(value, MultiValue | Sequence | list | tuple)


def _clean(text: str) -> str:
    """Without padding, control characters and half surrogates, which no database takes."""
    if text.isascii() and text.isprintable():
        return text.strip()
    printable = "".join(character for character in text if character >= " " and not "\x7f" <= character <= "\x9f")
    return printable.encode("utf-8", "replace").decode("utf-8").strip()
