"""Elements as bytes, Explicit VR Little Endian (PS3.5 7.1.2), for what is written thousands of times an object.

A segmentation of a hundred segments has tens of thousands of elements in its functional groups; as data sets they take
longer than all its pixels.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

if TYPE_CHECKING:
    # The library's dictionary of codes comes with it.
    from pydicom.sr.coding import Code

_ITEM = 0xFFFEE000
_UNDEFINED = 0xFFFFFFFF
_DELIMITER = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_LONG = frozenset({"SQ", "OB", "OW", "OF", "UN"})


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One element with a value of even length."""
    group, number = tag >> 16, tag & 0xFFFF
    if vr in _LONG:
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def text(tag: int, vr: str, *values: str) -> bytes:
    """An element of ASCII text, padded (PS3.5 6.2): UIDs with a zero byte, the rest with a space."""
    value = "\\".join(values).encode("ascii")
    if len(value) % 2:
        value += b"\x00" if vr == "UI" else b" "
    return element(tag, vr, value)


def shorts(tag: int, *values: int) -> bytes:
    """An element of VR US."""
    return element(tag, "US", struct.pack(f"<{len(values)}H", *values))


def longs(tag: int, *values: int) -> bytes:
    """An element of VR UL."""
    return element(tag, "UL", struct.pack(f"<{len(values)}I", *values))


def items(*contents: bytes) -> bytes:
    """Value of a sequence: items of defined length."""
    return b"".join(
        part
        for content in contents
        for part in (struct.pack("<HHI", _ITEM >> 16, _ITEM & 0xFFFF, len(content)), content)
    )


def sequence(tag: int, *contents: bytes) -> bytes:
    """A sequence; each item's elements have to stand in the order of their tags."""
    return element(tag, "SQ", items(*contents))


def code(tag: int, concept: Code) -> bytes:
    """A code sequence of one item (PS3.3 8.8)."""
    return sequence(
        tag,
        text(0x00080100, "SH", concept.value)
        + text(0x00080102, "SH", concept.scheme_designator)
        + text(0x00080104, "LO", concept.meaning),
    )


def add_raw(made: Dataset, tag: int, vr: str, value: bytes, *, encapsulated: bool = False) -> None:
    """Add an element that is written as it stands, and read like any other only when somebody asks for it.

    Parameters
    ----------
    encapsulated : bool
        The value is pixel data in fragments (PS3.5 A.4).
    """
    length = _UNDEFINED if encapsulated else len(value)
    made[tag] = RawDataElement(Tag(tag), vr, length, value, 0, False, True, True)


def encoded(raw: RawDataElement) -> tuple[bytes, ...]:
    """The whole of such an element, in parts to be written one after the other."""
    vr, value = str(raw.VR), raw.value or b""
    group, number = raw.tag.group, raw.tag.element
    if raw.length == _UNDEFINED:
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, _UNDEFINED), value, _DELIMITER
    if vr in _LONG:
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)), value
    return (element(raw.tag, vr, value),)
