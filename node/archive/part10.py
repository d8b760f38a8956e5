"""File meta information of a DICOM file, written and read without decoding the data set (PS3.10 7.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from dicom_sr.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.errors import SpoolDamaged

PREAMBLE = bytes(128) + b"DICM"
_GROUP_LENGTH = struct.pack("<HH2sH", 0x0002, 0x0000, b"UL", 4)
# A group 2 of ours has a few hundred bytes; private information may make a foreign one larger.
_LONGEST_META = 1 << 20
_LONG_FORM = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV"})


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the file meta information says.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid, transfer_syntax_uid : str
        (0002,0002), (0002,0003), (0002,0010); empty where absent.
    sending_ae_title, receiving_ae_title : str
        (0002,0017) or, where absent, (0002,0016); (0002,0018).
    dataset_offset : int
        Bytes before the data set.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sending_ae_title: str
    receiving_ae_title: str
    dataset_offset: int


def file_meta_bytes(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    sending_ae_title: str = "",
    receiving_ae_title: str = "",
) -> bytes:
    """Preamble, prefix and file meta information, ready to be followed by the data set as it was received.

    The AE titles make the file carry what the index knows about the association, so that the index can be rebuilt.

    Parameters
    ----------
    sending_ae_title, receiving_ae_title : str
        Calling and called AE title of the association; left out where empty.
    """
    before, after = _around_the_instance(sop_class_uid, transfer_syntax_uid, sending_ae_title, receiving_ae_title)
    body = before + _encoded(0x0003, b"UI", _uid(sop_instance_uid)) + after
    return PREAMBLE + _GROUP_LENGTH + struct.pack("<I", len(body)) + body


@lru_cache(maxsize=256)
def _around_the_instance(
    sop_class_uid: str, transfer_syntax_uid: str, sending_ae_title: str, receiving_ae_title: str
) -> tuple[bytes, bytes]:
    """Elements before and behind the SOP Instance UID, which alone differs within a series."""
    before = [(0x0001, b"OB", b"\x00\x01"), (0x0002, b"UI", _uid(sop_class_uid))]
    after = [
        (0x0010, b"UI", _uid(transfer_syntax_uid)),
        (0x0012, b"UI", _uid(IMPLEMENTATION_CLASS_UID)),
        (0x0013, b"SH", _text(IMPLEMENTATION_VERSION_NAME)),
    ]
    if receiving_ae_title:
        # The one that wrote the file is the one that received it (PS3.10 table 7.1-1).
        after.append((0x0016, b"AE", _text(receiving_ae_title)))
    if sending_ae_title:
        after.append((0x0017, b"AE", _text(sending_ae_title)))
    if receiving_ae_title:
        after.append((0x0018, b"AE", _text(receiving_ae_title)))
    encoded = [b"".join(_encoded(*element) for element in elements) for elements in (before, after)]
    return encoded[0], encoded[1]


def read_file_meta(source: Path | BinaryIO) -> FileMeta:
    """Read the file meta information from a file, or from a stream at its beginning.

    Raises
    ------
    SpoolDamaged
        There is no complete file meta information.
    """
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return read_file_meta(stream)
    head = source.read(144)
    if len(head) < 144 or head[128:132] != b"DICM" or head[132:140] != _GROUP_LENGTH:
        raise SpoolDamaged("a stored file has no DICOM file meta information")
    length = int.from_bytes(head[140:144], "little")
    body = source.read(length) if length <= _LONGEST_META else b""
    if len(body) != length:
        raise SpoolDamaged("a stored file ends within its file meta information")
    values = _decoded(body)
    return FileMeta(
        sop_class_uid=values.get(0x0002, ""),
        sop_instance_uid=values.get(0x0003, ""),
        transfer_syntax_uid=values.get(0x0010, ""),
        sending_ae_title=values.get(0x0017) or values.get(0x0016, ""),
        receiving_ae_title=values.get(0x0018, ""),
        dataset_offset=144 + length,
    )


def dataset_offset(path: Path) -> int:
    """Bytes before the data set in a DICOM file.

    Raises
    ------
    SpoolDamaged
        There is no complete file meta information.
    """
    return read_file_meta(path).dataset_offset


def _uid(value: str) -> bytes:
    encoded = value.encode("ascii")
    return encoded + b"\0" * (len(encoded) % 2)


def _text(value: str) -> bytes:
    encoded = value.encode("ascii", "replace")[:16]
    return encoded + b" " * (len(encoded) % 2)


def _encoded(element: int, vr: bytes, value: bytes) -> bytes:
    if vr in _LONG_FORM:
        return struct.pack("<HH2sxxI", 0x0002, element, vr, len(value)) + value
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value


def _decoded(body: bytes) -> dict[int, str]:
    values: dict[int, str] = {}
    position = 0
    while position + 8 <= len(body):
        _, element, vr, length = struct.unpack_from("<HH2sH", body, position)
        position += 8
        if vr in _LONG_FORM:
            if position + 4 > len(body):
                break
            (length,) = struct.unpack_from("<I", body, position)
            position += 4
        values[element] = body[position : position + length].decode("ascii", "replace").strip("\0 ")
        position += length
    if position != len(body):
        raise SpoolDamaged("the file meta information of a stored file is not well formed")
    return values
