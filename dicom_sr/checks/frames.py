"""Per-frame functional groups, taken from their bytes: what many frames share is read once.

A segmentation of a hundred segments repeats three hundred positions and derivations ten times; as data sets, frame by
frame, reading them takes longer than comparing all voxels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

_ITEM = (0xFFFE, 0xE000)
_PER_FRAME = 0x52009230
_INDICES = "FrameContentSequence"
_ONLY_INDICES = struct.pack("<HH2s", 0x0020, 0x9157, b"UL")


@dataclass(frozen=True, slots=True)
class FrameGroups:
    """Functional groups of one frame: keyword of the macro's sequence → the macro. Frames share equal macros."""

    macros: dict[str, Macro]

    def first(self, keyword: str) -> Dataset:
        """First item of a macro's sequence; KeyError or IndexError where there is none."""
        entry: Dataset = self.macros[keyword].content[keyword][0]
        return entry

    def indices(self) -> tuple[int, ...]:
        """Dimension Index Values; empty where they do not stand alone in their macro."""
        macro = self.macros.get(_INDICES)
        if macro is None or not macro.is_indices:
            return ()
        size = struct.unpack_from("<H", macro.encoded, 26)[0]
        return struct.unpack_from(f"<{size // 4}I", macro.encoded, 28)


@dataclass(slots=True)
class Macro:
    """One functional group macro, decoded when it is looked into."""

    encoded: bytes
    _content: list[Dataset] = field(default_factory=list)

    @property
    def is_indices(self) -> bool:
        """Whether it is one item with nothing but Dimension Index Values."""
        encoded = self.encoded
        if encoded[20:26] != _ONLY_INDICES:
            return False
        return len(encoded) == 28 + int(struct.unpack_from("<H", encoded, 26)[0])

    @property
    def content(self) -> Dataset:
        """The macro's sequence in a data set of its own."""
        if not self._content:
            self._content.append(read_dataset(BytesIO(self.encoded), is_implicit_VR=False, is_little_endian=True))
        return self._content[0]


def take_frames(dataset: Dataset) -> tuple[FrameGroups, ...]:
    """Take the functional groups out of a data set that was read from a file.

    In their place it keeps every different macro once, so that whoever walks the data set still meets all of them, except
    those with nothing in them but numbers.

    Raises
    ------
    ValueError
        The sequence is not built from items and sequences of defined length, as it is written here.
    """
    element = dataset.get_item(_PER_FRAME) if _PER_FRAME in dataset else None
    if element is None:
        return ()
    if not isinstance(element, RawDataElement) or element.value is None:
        raise ValueError("functional groups of undefined length")
    known: dict[bytes, Macro] = {}
    frames = tuple(FrameGroups(dict(_macros(item, known))) for item in _items(element.value))
    dataset.PerFrameFunctionalGroupsSequence = [macro.content for macro in known.values() if not macro.is_indices]
    return frames


def _items(content: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(content):
        group, number, length = struct.unpack_from("<HHI", content, place)
        begin, place = place + 8, place + 8 + length
        if (group, number) != _ITEM or place > len(content):
            raise ValueError("functional groups are not items of defined length")
        yield content[begin:place]


def _macros(item: bytes, known: dict[bytes, Macro]) -> Iterator[tuple[str, Macro]]:
    place = 0
    while place < len(item):
        group, number, representation, _, length = struct.unpack_from("<HH2sHI", item, place)
        begin, place = place, place + 12 + length
        if representation != b"SQ" or place > len(item):
            raise ValueError("functional groups are not sequences of defined length")
        encoded = item[begin:place]
        if encoded not in known:
            known[encoded] = Macro(encoded)
        yield keyword_for_tag(group << 16 | number), known[encoded]
