"""The header of an instance from the first bytes of its data set, while they are still in memory.

Reads plain little endian headers only. Anything odd is left to pydicom, so that there is one opinion on what an odd
header says: for everything this module does read, the result equals :func:`node.archive.headers.read_header`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Protocol

from pydicom.tag import BaseTag

from node.archive.element_scan import LONGEST_HEAD, SHORT_FORM, UNDEFINED, ElementScan, Odd, explicit_head, length_at
from node.archive.header_values import PRIVATE_B_VALUES, PRIVATE_BLOCKS, HeaderValues, clean_texts
from node.archive.headers import LONGEST_VALUE_BYTES, InstanceHeader, header_from

_IMPLICIT_SYNTAX = "1.2.840.10008.1.2"
_EXPLICIT_SYNTAX = "1.2.840.10008.1.2.1"
# Every one of these is explicit VR little endian around compressed pixels (PS3.5 A.4).
_ENCAPSULATED_SYNTAXES = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")

_CHARACTER_SET, _CODE_VALUE = 0x00080005, 0x00080100
_CLASS_UID, _INSTANCE_UID = 0x00080016, 0x00080018

# Keyword: tag and its only VR (PS3.6).
_WANTED: dict[str, tuple[int, bytes]] = {
    "ImageType": (0x00080008, b"CS"),
    "SOPClassUID": (0x00080016, b"UI"),
    "SOPInstanceUID": (0x00080018, b"UI"),
    "AccessionNumber": (0x00080050, b"SH"),
    "Modality": (0x00080060, b"CS"),
    "Manufacturer": (0x00080070, b"LO"),
    "StationName": (0x00081010, b"SH"),
    "StudyDescription": (0x00081030, b"LO"),
    "ProcedureCodeSequence": (0x00081032, b"SQ"),
    "SeriesDescription": (0x0008103E, b"LO"),
    "ManufacturerModelName": (0x00081090, b"LO"),
    "AcquisitionContrast": (0x00089209, b"CS"),
    "PatientName": (0x00100010, b"PN"),
    "PatientID": (0x00100020, b"LO"),
    "IssuerOfPatientID": (0x00100021, b"LO"),
    "PatientBirthDate": (0x00100030, b"DA"),
    "BodyPartExamined": (0x00180015, b"CS"),
    "SequenceName": (0x00180024, b"SH"),
    "MagneticFieldStrength": (0x00180087, b"DS"),
    "ProtocolName": (0x00181030, b"LO"),
    "DeviceSerialNumber": (0x00181000, b"LO"),
    "DeviceUID": (0x00181002, b"UI"),
    "DiffusionBValue": (0x00189087, b"FD"),
    "ContributingEquipmentSequence": (0x0018A001, b"SQ"),
    "StudyInstanceUID": (0x0020000D, b"UI"),
    "SeriesInstanceUID": (0x0020000E, b"UI"),
    "NumberOfFrames": (0x00280008, b"IS"),
    "Rows": (0x00280010, b"US"),
    "Columns": (0x00280011, b"US"),
    "RequestedProcedureCodeSequence": (0x00321064, b"SQ"),
    "ImageOrientationPatient": (0x00200037, b"DS"),
    "ScanningSequence": (0x00180020, b"CS"),
    "SequenceVariant": (0x00180021, b"CS"),
    "ScanOptions": (0x00180022, b"CS"),
    "ConvolutionKernel": (0x00181210, b"SH"),
    "ContrastBolusAgent": (0x00180010, b"LO"),
    "ViewPosition": (0x00185101, b"CS"),
    "PatientPosition": (0x00185100, b"CS"),
    "PatientSex": (0x00100040, b"CS"),
    "PatientAge": (0x00101010, b"AS"),
    "ImageLaterality": (0x00200062, b"CS"),
    "InstitutionName": (0x00080080, b"LO"),
    "InstitutionalDepartmentName": (0x00081040, b"LO"),
    "PerformedProcedureStepDescription": (0x00400254, b"LO"),
    "SliceThickness": (0x00180050, b"DS"),
    "KVP": (0x00180060, b"DS"),
    "RepetitionTime": (0x00180080, b"DS"),
    "EchoTime": (0x00180081, b"DS"),
    "InversionTime": (0x00180082, b"DS"),
    "SeriesNumber": (0x00200011, b"IS"),
    "StudyDate": (0x00080020, b"DA"),
    "StudyTime": (0x00080030, b"TM"),
    "ReferringPhysicianName": (0x00080090, b"PN"),
    "TimezoneOffsetFromUTC": (0x00080201, b"SH"),
    "StudyID": (0x00200010, b"SH"),
    "InstanceNumber": (0x00200013, b"IS"),
    "BitsAllocated": (0x00280100, b"US"),
}
_CREATORS = frozenset(group << 16 | block for group, _, _ in PRIVATE_B_VALUES for block in PRIVATE_BLOCKS)
_PRIVATE = frozenset(
    group << 16 | block << 8 | element for group, element, _ in PRIVATE_B_VALUES for block in PRIVATE_BLOCKS
)
KEPT = frozenset(tag for tag, _ in _WANTED.values()) | _CREATORS | _PRIVATE | {_CHARACTER_SET}
_LAST_KEPT = max(KEPT)

# Character sets whose bytes below 0x80 are ASCII as long as no escape sequence says otherwise (PS3.3 C.12.1.1.2).
_ASCII_BELOW = frozenset(
    ["", "GB18030", "GBK", "ISO_IR 192", "ISO_IR 6", "ISO 2022 IR 6"]
    + [f"{kind} {number}" for kind in ("ISO_IR", "ISO 2022 IR") for number in (13, 100, 101, 109, 110, 126, 127)]
    + [f"{kind} {number}" for kind in ("ISO_IR", "ISO 2022 IR") for number in (138, 144, 148, 166)]
    + [f"ISO 2022 IR {number}" for number in (58, 87, 149, 159)]
)
_BEYOND_ASCII = {"ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,10}")
_BEYOND_IS = 1 << 31
_DECIMAL_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


class HeaderScan(Protocol):
    """Something that does what :func:`scan_header` does."""

    def __call__(self, head: bytes, transfer_syntax_uid: str, *, whole: bool) -> InstanceHeader | None:
        """Read the header from the beginning of a data set."""


def scan_header(head: bytes, transfer_syntax_uid: str, *, whole: bool) -> InstanceHeader | None:
    """Read the header from the beginning of a data set.

    Parameters
    ----------
    head : bytes
        First bytes of the data set.
    whole : bool
        They are all of it.

    Returns
    -------
    InstanceHeader or None
        None where the header is odd in any way, or does not end within ``head``.
    """
    found = scan_elements(head, transfer_syntax_uid, whole=whole)
    return header_of(found, transfer_syntax_uid) if found is not None else None


def scan_elements(head: bytes, transfer_syntax_uid: str, *, whole: bool) -> ElementScan | None:
    """First half of :func:`scan_header`: where the elements lie; None as there."""
    if transfer_syntax_uid == _IMPLICIT_SYNTAX:
        explicit = False
    elif transfer_syntax_uid == _EXPLICIT_SYNTAX or transfer_syntax_uid.startswith(_ENCAPSULATED_SYNTAXES):
        explicit = True
    else:
        return None
    try:
        return ElementScan(head, explicit=explicit, whole=whole, kept=KEPT, last_kept=_LAST_KEPT)
    except (Odd, struct.error):
        return None


def header_of(found: ElementScan, transfer_syntax_uid: str) -> InstanceHeader | None:
    """Second half of :func:`scan_header`: what the elements say; depends on nothing but the bytes of those kept."""
    try:
        return header_from(_ScannedValues(found), transfer_syntax_uid)
    except (Odd, struct.error):
        return None


def scan_instance(head: bytes, transfer_syntax_uid: str) -> tuple[str, str] | None:
    """SOP Class and SOP Instance UID from the first elements of a data set; None where anything is odd.

    Parameters
    ----------
    head : bytes
        First bytes of the data set.
    """
    explicit = transfer_syntax_uid != _IMPLICIT_SYNTAX
    if (
        explicit
        and transfer_syntax_uid != _EXPLICIT_SYNTAX
        and not transfer_syntax_uid.startswith(_ENCAPSULATED_SYNTAXES)
    ):
        return None
    found: dict[int, str] = {}
    position, previous = 0, 0
    while position + LONGEST_HEAD <= len(head):
        group, element, vr, short = explicit_head(head, position)
        tag = group << 16 | element
        if tag <= previous or (explicit and vr not in SHORT_FORM):
            return None
        if tag > _INSTANCE_UID:
            return found.get(_CLASS_UID, ""), found.get(_INSTANCE_UID, "")
        length = short if explicit else length_at(head, position + 4)[0]
        value = head[position + 8 : position + 8 + length]
        if tag in (_CLASS_UID, _INSTANCE_UID):
            if not value.isascii() or (explicit and vr != b"UI"):
                return None
            found[tag] = value.decode("ascii").strip("\0 ")
        position, previous = position + 8 + length, tag
    return None


class _ScannedValues(HeaderValues):
    """Decodes what was found."""

    def __init__(self, scan: ElementScan) -> None:
        super().__init__()
        self._scan = scan
        charset = self._value(_CHARACTER_SET, b"CS")
        terms = [] if charset is None else charset if isinstance(charset, list) else [charset]
        if not _ASCII_BELOW.issuperset(terms):
            raise Odd
        self._codec = _BEYOND_ASCII.get(terms[0]) if len(terms) == 1 else None

    def raw(self, key: str | BaseTag) -> Any:
        if isinstance(key, str):
            return self._value(*_WANTED[key])
        return self._value(int(key), b"LO" if key in _CREATORS else b"")

    def uid(self, key: str) -> str:
        value = super().uid(key)
        if not (value.isascii() and value.isprintable()):
            raise Odd  # pydicom has its own idea of what to strip
        return value

    def codes(self, key: str) -> list[str]:
        tag, expected = _WANTED[key]
        if tag not in self._scan.found:
            return []
        vr, start, length = self._scan.found[tag]
        if self._scan.explicit and vr != expected:
            raise Odd
        return [code for begin, end in self._scan.items(start, length) for code in self._codes_of_item(begin, end)]

    def in_items(self, key: str, keywords: tuple[str, ...]) -> list[list[str]]:
        tag, expected = _WANTED[key]
        if tag not in self._scan.found:
            return []
        vr, start, length = self._scan.found[tag]
        if self._scan.explicit and vr != expected:
            raise Odd
        wanted = {_WANTED[keyword][0]: _WANTED[keyword] for keyword in keywords}
        return [self._of_item(begin, end, wanted) for begin, end in self._scan.items(start, length)]

    def _of_item(self, position: int, end: int, wanted: dict[int, tuple[int, bytes]]) -> list[str]:
        texts = dict.fromkeys(wanted, "")
        previous = 0
        while position < end:
            tag, vr, start, length = self._scan.element(position)
            if tag <= previous or tag == _CHARACTER_SET:
                raise Odd
            previous = tag
            if tag in wanted:
                texts[tag] = "\\".join(clean_texts(self._decoded(vr, wanted[tag][1], start, length)))
            position = start + length if length != UNDEFINED else self._scan.after_sequence(tag, vr, start, 0)
        if position != end:
            raise Odd
        return list(texts.values())

    def _codes_of_item(self, position: int, end: int) -> list[str]:
        codes: list[str] = []
        previous = 0
        while position < end:
            tag, vr, start, length = self._scan.element(position)
            if tag <= previous or tag == _CHARACTER_SET:
                raise Odd
            previous = tag
            if tag == _CODE_VALUE:
                codes = clean_texts(self._decoded(vr, b"SH", start, length))
            position = start + length if length != UNDEFINED else self._scan.after_sequence(tag, vr, start, 0)
        if position != end:
            raise Odd
        return codes

    def _value(self, tag: int, expected: bytes) -> Any:
        if tag not in self._scan.found:
            return None
        return self._decoded(self._scan.found[tag][0], expected, *self._scan.found[tag][1:])

    def _decoded(self, vr: bytes, expected: bytes, start: int, length: int) -> Any:
        """Value as pydicom has it, with lists for several; ``expected`` empty takes any VR of numbers."""
        if length > LONGEST_VALUE_BYTES:
            raise Odd
        decode = _DECODERS.get(vr or expected)
        content = bytes(self._scan.data[start : start + length])
        if decode is None or (vr and expected and vr != expected) or len(content) != length:
            raise Odd
        if not expected and vr not in _NUMBERS:
            raise Odd
        value = decode(self, content) if content else None
        return None if value == "" else value

    def _text(self, content: bytes) -> str | list[str]:
        return _one_or_several([value.rstrip("\0 ") for value in self._unicode(content).split("\\")])

    def _name(self, content: bytes) -> str | list[str]:
        # Empty component groups at the end are dropped with their delimiter.
        return _one_or_several([value.rstrip("=") for value in self._unicode(content.rstrip(b"\0 ")).split("\\")])

    def _string(self, content: bytes) -> str | list[str]:
        return _one_or_several(content.decode("latin-1").rstrip("\0 ").split("\\"))

    def _whole_numbers(self, content: bytes) -> Any:
        numbers = self._numbers(content, _WHOLE_NUMBER, int)
        if isinstance(numbers, int) and abs(numbers) >= _BEYOND_IS:
            raise Odd
        return numbers

    def _decimal_numbers(self, content: bytes) -> Any:
        return self._numbers(content, _DECIMAL_NUMBER, float)

    def _numbers(self, content: bytes, form: re.Pattern[str], make: Callable[[str], float]) -> Any:
        texts = content.decode("latin-1").strip(" ").split("\\")
        if texts == [""]:
            return None
        if any(len(text) > 16 or not form.fullmatch(text) for text in texts):
            raise Odd
        return _one_or_several([make(text) for text in texts])

    def _unsigned_short(self, content: bytes) -> int:
        return self._binary("<H", content)

    def _double(self, content: bytes) -> float:
        return self._binary("<d", content)

    def _single(self, content: bytes) -> float:
        return self._binary("<f", content)

    def _binary(self, form: str, content: bytes) -> Any:
        if len(content) != struct.calcsize(form):
            raise Odd
        return struct.unpack(form, content)[0]

    def _unicode(self, content: bytes) -> str:
        if b"\x1b" in content:
            raise Odd
        if content.isascii():
            return content.decode("ascii")
        if self._codec is None:
            raise Odd
        try:
            return content.decode(self._codec)
        except UnicodeDecodeError as error:
            raise Odd from error


_DECODERS: dict[bytes, Callable[[_ScannedValues, bytes], Any]] = {
    b"CS": _ScannedValues._string,
    b"AS": _ScannedValues._string,
    b"DA": _ScannedValues._string,
    b"TM": _ScannedValues._string,
    b"UI": _ScannedValues._string,
    b"LO": _ScannedValues._text,
    b"SH": _ScannedValues._text,
    b"PN": _ScannedValues._name,
    b"IS": _ScannedValues._whole_numbers,
    b"DS": _ScannedValues._decimal_numbers,
    b"US": _ScannedValues._unsigned_short,
    b"FD": _ScannedValues._double,
    b"FL": _ScannedValues._single,
}
_NUMBERS = frozenset([b"IS", b"DS", b"FD", b"FL"])


def _one_or_several(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values
