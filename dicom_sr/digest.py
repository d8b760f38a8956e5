"""Canonical data-set digest: the same for the same content, however a forwarding peer encoded it.

A PACS that forwards an image may change implicit to explicit VR, defined to undefined sequence length, add group
lengths or turn a private sequence into UN. None of that is other content. The digest is SHA-256 over a canonical walk:

* every element in tag order as tag, kind, length, value; file meta, group lengths (gggg,0000), (0008,0001) and Data Set
  Trailing Padding (FFFC,FFFC) are left out;
* VRs are not part of it (implicit VR does not carry them); trailing padding of text values is stripped where the
  dictionary knows the element as text;
* a sequence is its items in order, whatever its length encoding; a private or unknown value that parses wholly as
  implicit VR items counts as a sequence, because a peer without our dictionary writes it so; a sequence without items
  equals an empty value;
* encapsulated pixel data are their fragments without the Basic Offset Table, which a peer may add or empty.

Big endian values are swapped to little endian; the deflated syntax is inflated. Other compression of the same image is
other content, and so is another character set. What cannot be walked is digested as it stands.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from functools import lru_cache
from itertools import pairwise

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

Buffer = bytes | memoryview

_LONG_LENGTH_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_SHORT_LENGTH_VR_NAMES = "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US"
_SHORT_LENGTH_VRS = frozenset(_SHORT_LENGTH_VR_NAMES.encode().split())
_TEXT_VRS = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)
_SWAPPED_BYTES = {b"US": 2, b"SS": 2, b"OW": 2, b"AT": 2, b"UL": 4, b"SL": 4, b"FL": 4, b"OL": 4, b"OF": 4}
_SWAPPED_BYTES |= {b"FD": 8, b"OD": 8, b"SV": 8, b"UV": 8, b"OV": 8}

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_LEFT_OUT = frozenset((0x00080001, 0xFFFCFFFC))
_ITEM_BYTES = b"\xfe\xff\x00\xe0"
_MAXIMUM_DEPTH = 32


class _Malformed(ValueError):
    """The bytes do not form a data set."""


def dataset_digest(file: Buffer) -> str:
    """SHA-256 (hex) of the data set in a DICOM file's bytes (PS3.10, or a bare data set without preamble)."""
    buffer = memoryview(file)
    start, syntax = _data_set(buffer)
    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            buffer, start = memoryview(zlib.decompress(buffer[start:], -zlib.MAX_WBITS)), 0
        walker = _Walker(buffer, big=syntax == ExplicitVRBigEndian)
        chunks = walker.data_set(start, len(buffer), explicit=syntax != ImplicitVRLittleEndian)
    except (_Malformed, struct.error, zlib.error):
        return hashlib.sha256(b"as it stands" + bytes(buffer[start:])).hexdigest()
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _data_set(buffer: memoryview) -> tuple[int, str]:
    """Offset of the data set and its transfer syntax; guessed where there is no file meta."""
    position = 132 if bytes(buffer[128:132]) == b"DICM" else 0
    syntax = ""
    while len(buffer) >= position + 8 and bytes(buffer[position : position + 2]) == b"\x02\x00":
        element = int.from_bytes(buffer[position + 2 : position + 4], "little")
        if bytes(buffer[position + 4 : position + 6]) in _LONG_LENGTH_VRS:
            length, head = int.from_bytes(buffer[position + 8 : position + 12], "little"), 12
        else:
            length, head = int.from_bytes(buffer[position + 6 : position + 8], "little"), 8
        if element == 0x0010:
            syntax = bytes(buffer[position + head : position + head + length]).rstrip(b"\0 ").decode("ascii", "replace")
        position += head + length
    if not syntax:
        known = bytes(buffer[position + 4 : position + 6]) in _LONG_LENGTH_VRS | _SHORT_LENGTH_VRS
        syntax = "" if known else str(ImplicitVRLittleEndian)
    return min(position, len(buffer)), syntax


@lru_cache(maxsize=8192)
def _dictionary_vr(tag: int) -> str | None:
    """The standard's VR, None for private and unknown elements."""
    if tag >> 16 & 1:
        return None
    try:
        return dictionary_VR(tag)
    except KeyError:
        return None


class _Walker:
    """Canonical chunks of the data sets in one buffer."""

    def __init__(self, buffer: memoryview, *, big: bool) -> None:
        self._buffer = buffer
        self._order = ">" if big else "<"
        self._big = big
        self._head = struct.Struct(self._order + "HH")
        self._short = struct.Struct(self._order + "H")
        self._long = struct.Struct(self._order + "L")

    def data_set(self, position: int, end: int, *, explicit: bool, depth: int = 0) -> list[Buffer]:
        """Chunks of the data set that fills ``position`` to ``end``."""
        chunks, stop = self._elements(position, end, explicit, depth, item=False)
        if stop != end:
            raise _Malformed("trailing bytes")
        return chunks

    def _tag(self, position: int) -> int:
        group, element = self._head.unpack_from(self._buffer, position)
        return int(group) << 16 | int(element)

    def _elements(self, position: int, end: int, explicit: bool, depth: int, *, item: bool) -> tuple[list[Buffer], int]:
        """Chunks up to ``end``, or up to and including an Item Delimitation when ``item``."""
        if depth > _MAXIMUM_DEPTH:
            raise _Malformed("nested too deeply")
        tags: list[int] = []
        found: list[list[Buffer]] = []
        while position < end:
            tag = self._tag(position)
            if tag == _ITEM_END and item:
                position += 8
                break
            chunk, position = self._element(tag, position, end, explicit, depth)
            if chunk:
                tags.append(tag)
                found.append(chunk)
        else:
            if item:
                raise _Malformed("an item without end")
        if any(a > b for a, b in pairwise(tags)):
            found = [found[i] for i in sorted(range(len(tags)), key=tags.__getitem__)]
        return [part for chunk in found for part in chunk], position

    def _element(self, tag: int, position: int, end: int, explicit: bool, depth: int) -> tuple[list[Buffer], int]:
        vr = b""
        if explicit:
            vr = bytes(self._buffer[position + 4 : position + 6])
            if vr in _SHORT_LENGTH_VRS:
                (length,) = self._short.unpack_from(self._buffer, position + 6)
                position += 8
            elif vr in _LONG_LENGTH_VRS:
                (length,) = self._long.unpack_from(self._buffer, position + 8)
                position += 12
            else:
                raise _Malformed("unknown VR")
        else:
            (length,) = self._long.unpack_from(self._buffer, position + 4)
            position += 8
        if length != _UNDEFINED and position + length > end:
            raise _Malformed("a value runs past the end")
        if length == _UNDEFINED and tag == _PIXEL_DATA:
            return self._fragments(tag, position, end)
        if length == _UNDEFINED or vr == b"SQ" or _dictionary_vr(tag) == "SQ":
            inside = explicit and vr != b"UN"
            return self._sequence(
                tag, position, None if length == _UNDEFINED else position + length, end, inside, depth
            )
        if tag & 0xFFFF == 0 or tag in _LEFT_OUT:
            return [], position + length
        return self._value(tag, vr, position, position + length, depth), position + length

    def _value(self, tag: int, vr: bytes, position: int, end: int, depth: int) -> list[Buffer]:
        known = _dictionary_vr(tag)
        value: Buffer = self._buffer[position:end]
        if known is None and vr in (b"", b"UN", b"OB") and not self._big and value[:4] == _ITEM_BYTES:
            try:
                return self._sequence(tag, position, end, end, False, depth)[0]
            except (_Malformed, struct.error):
                pass  # an opaque value that only begins like an item
        if known in _TEXT_VRS:
            value = bytes(value).rstrip(b"\0 ")
        elif self._big and (width := _SWAPPED_BYTES.get(vr)) and len(value) % width == 0:
            value = np.frombuffer(value, dtype=f">u{width}").astype(f"<u{width}").tobytes()
        return [struct.pack("<LcQ", tag, b"V", len(value)), value]

    def _sequence(
        self, tag: int, position: int, stop: int | None, end: int, explicit: bool, depth: int
    ) -> tuple[list[Buffer], int]:
        """Items up to ``stop``, or up to the Sequence Delimitation when ``stop`` is None."""
        parts: list[Buffer] = []
        limit = end if stop is None else stop
        while True:
            if position == limit and stop is not None:
                break
            if position + 8 > limit:
                raise _Malformed("a sequence without end")
            marker, (length,) = self._tag(position), self._long.unpack_from(self._buffer, position + 4)
            position += 8
            if marker == _SEQUENCE_END and stop is None:
                break
            if marker != _ITEM:
                raise _Malformed("not an item")
            parts.append(b"I")
            if length == _UNDEFINED:
                chunks, position = self._elements(position, limit, explicit, depth + 1, item=True)
            else:
                if position + length > limit:
                    raise _Malformed("an item runs past the end")
                chunks = self.data_set(position, position + length, explicit=explicit, depth=depth + 1)
                position += length
            parts += chunks
            parts.append(b"i")
        head = struct.pack("<LcQ", tag, b"S" if parts else b"V", 0)
        return [head, *parts, b"s"] if parts else [head], position

    def _fragments(self, tag: int, position: int, end: int) -> tuple[list[Buffer], int]:
        parts: list[Buffer] = [struct.pack("<LcQ", tag, b"F", 0)]
        first = True
        while position + 8 <= end:
            marker, (length,) = self._tag(position), self._long.unpack_from(self._buffer, position + 4)
            position += 8
            if marker == _SEQUENCE_END:
                return parts, position
            if marker != _ITEM or position + length > end:
                raise _Malformed("not a fragment")
            if not first:
                parts += [struct.pack("<Q", length), self._buffer[position : position + length]]
            first = False
            position += length
        raise _Malformed("fragments without end")
