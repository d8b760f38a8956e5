"""Where the elements of a plain little endian data set lie, found without decoding a value."""

from __future__ import annotations

import struct

UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXELS = frozenset([0x7FE00008, 0x7FE00009, 0x7FE00010])
_FIRST_PIXELS = min(PIXELS)
LONGEST_HEAD = 12
_DEEPEST = 16

SHORT_FORM = frozenset([b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN"]) | {
    *(b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
}
_LONG_FORM = frozenset([b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"])

explicit_head = struct.Struct("<HH2sH").unpack_from
_implicit = struct.Struct("<HHI").unpack_from
length_at = struct.Struct("<I").unpack_from


class Odd(Exception):
    """Something pydicom had better look at."""


class ElementScan:
    """Where the wanted elements of a data set lie.

    Parameters
    ----------
    data : bytes
        First bytes of the data set.
    explicit : bool
        Explicit VR; else implicit.
    whole : bool
        They are all of it.
    kept : frozenset of int
        Wanted tags.
    last_kept : int
        The last of these: what comes behind it need not be in ``data``.

    Attributes
    ----------
    found : dict
        Tag to VR, start and length of the value.
    pixels_at : int
        Where the element of the pixels begins; -1 where ``data`` does not reach it.

    Raises
    ------
    Odd, struct.error
        It is not plain, or ends too early.
    """

    def __init__(self, data: bytes, *, explicit: bool, whole: bool, kept: frozenset[int], last_kept: int) -> None:
        self.data = data
        self.explicit = explicit
        self.found: dict[int, tuple[bytes, int, int]] = {}
        self.pixels_at = -1
        # pydicom believes the first element, not the transfer syntax.
        if len(data) < 8 or (data[4:6].isalpha() and data[4:6].isupper()) is not explicit:
            raise Odd
        position, end, previous = 0, len(data), 0x00020000
        last_head = end - LONGEST_HEAD if not whole else end
        while position < end and position <= last_head:
            # Nearly every element has the short form: not worth a call each.
            group, number, vr, length = explicit_head(data, position)
            if explicit and vr in SHORT_FORM:
                tag, start = group << 16 | number, position + 8
            else:
                tag, vr, start, length = self.element(position)
            if tag <= previous or tag >= _FIRST_PIXELS:
                if tag in PIXELS:
                    self.pixels_at = position
                    return
                if tag <= previous or tag >= _ITEM:
                    raise Odd
            previous = tag
            if tag in kept:
                self.found[tag] = (vr, start, length)
            if length == UNDEFINED:
                if tag > last_kept and not whole:
                    return
                position = self.after_sequence(tag, vr, start, 0)
            else:
                position = start + length
        if position != end and (whole or previous <= last_kept):
            raise Odd

    @classmethod
    def over(cls, data: bytes, *, explicit: bool) -> ElementScan:
        """A scan that has looked for nothing yet: for its other methods."""
        scan = cls.__new__(cls)
        scan.data, scan.explicit, scan.found, scan.pixels_at = data, explicit, {}, -1
        return scan

    def element(self, position: int) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty where implicit), start and length of the value."""
        if not self.explicit:
            group, element, length = _implicit(self.data, position)
            return group << 16 | element, b"", position + 8, length
        group, element, vr, length = explicit_head(self.data, position)
        if vr in SHORT_FORM:
            return group << 16 | element, vr, position + 8, length
        if group == 0xFFFE:
            return group << 16 | element, b"", position + 8, length_at(self.data, position + 4)[0]
        if vr in _LONG_FORM:
            return group << 16 | element, vr, position + 12, length_at(self.data, position + 8)[0]
        raise Odd

    def after_sequence(self, tag: int, vr: bytes, position: int, depth: int) -> int:
        """Position behind a sequence of undefined length."""
        if (self.explicit and vr != b"SQ") or depth > _DEEPEST:
            raise Odd
        while True:
            tag, _, start, length = self.element(position)
            if tag == _SEQUENCE_END:
                return start
            if tag != _ITEM:
                raise Odd
            position = self.after_item(start, length, depth)

    def after_item(self, position: int, size: int, depth: int) -> int:
        """Position behind an item; what is in it must be as well-formed as pydicom wants it."""
        end = position + size if size != UNDEFINED else len(self.data)
        while position < end:
            tag, vr, start, length = self.element(position)
            if tag == _ITEM_END and size == UNDEFINED:
                return start
            if tag >= _ITEM:
                raise Odd
            position = start + length if length != UNDEFINED else self.after_sequence(tag, vr, start, depth + 1)
        if position != end or size == UNDEFINED:
            raise Odd
        return position

    def items(self, start: int, length: int) -> list[tuple[int, int]]:
        """Begin and end of the content of each item of a sequence."""
        end = start + length if length != UNDEFINED else len(self.data)
        found: list[tuple[int, int]] = []
        position = start
        while position < end:
            tag, _, begin, size = self.element(position)
            if tag == _SEQUENCE_END and length == UNDEFINED:
                return found
            if tag != _ITEM:
                raise Odd
            position = self.after_item(begin, size, 0)
            found.append((begin, position if size != UNDEFINED else position - 8))
        if position != end or length == UNDEFINED:
            raise Odd
        return found
