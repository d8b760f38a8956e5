"""C-STORE-RQ read and C-STORE-RSP written without a library's data sets (PS3.7 9.3.1, PS3.8 9.3.5 and annex E).

Only requests without any oddity are recognised here; every other message is somebody else's.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_SOP_CLASS_UID, _FIELD, _MESSAGE_ID, _RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _ERROR_COMMENT, _SOP_INSTANCE_UID = 0x0800, 0x0900, 0x0902, 0x1000
_C_STORE_RQ, _C_STORE_RSP, _NO_DATA_SET = 0x0001, 0x8001, 0x0101
_MOVE_ORIGINATOR = 0x1030
_COMMAND_LAST = 0x03

_UID = re.compile(rb"[0-9]+(?:\.[0-9]+)*")
_LONGEST_UID = 64

_element = struct.Struct("<HHI").unpack_from
_head = struct.Struct("<HHI").pack
_short = struct.Struct("<HHIH").pack
_pdu = struct.Struct(">BBLLBB").pack


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE-RQ that is followed by a data set; ``move_originator`` is empty where no C-MOVE caused it."""

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    move_originator: str = ""


def read_store_request(command: bytes, context_id: int) -> StoreRequest | None:
    """The request that a complete command set encodes; None where it is another message, or odd in any way.

    Parameters
    ----------
    command : bytes
        Implicit VR little endian, group 0000 (PS3.7 6.3.1).
    context_id : int
        Presentation context it came on.
    """
    values: dict[int, bytes] = {}
    position = 0
    while position + 8 <= len(command):
        group, element, length = _element(command, position)
        position += 8
        if group or element in values:
            return None
        values[element] = command[position : position + length]
        position += length
    if position != len(command):
        return None
    numbers = [values.get(element, b"") for element in (_FIELD, _MESSAGE_ID, _DATA_SET_TYPE)]
    if any(len(number) != 2 for number in numbers):
        return None
    field, message_id, data_set_type = (int.from_bytes(number, "little") for number in numbers)
    if field != _C_STORE_RQ or data_set_type == _NO_DATA_SET or _RESPONDED_TO in values:
        return None
    uids = [values.get(element, b"").rstrip(b"\0 ") for element in (_SOP_CLASS_UID, _SOP_INSTANCE_UID)]
    if any(len(uid) > _LONGEST_UID or not _UID.fullmatch(uid) for uid in uids):
        return None
    originator = values.get(_MOVE_ORIGINATOR, b"").decode("ascii", "replace").strip("\0 ")
    return StoreRequest(context_id, message_id, uids[0].decode("ascii"), uids[1].decode("ascii"), originator)


def store_response(request: StoreRequest, status: int, comment: str = "") -> bytes:
    """The C-STORE-RSP as one P-DATA-TF PDU with one fragment.

    Parameters
    ----------
    comment : str
        Error Comment (0000,0902), at most 64 characters; left out where empty.
    """
    body = (
        _uid(_SOP_CLASS_UID, request.sop_class_uid)
        + _short(0, _FIELD, 2, _C_STORE_RSP)
        + _short(0, _RESPONDED_TO, 2, request.message_id)
        + _short(0, _DATA_SET_TYPE, 2, _NO_DATA_SET)
        + _short(0, _STATUS, 2, status)
        + (_text(_ERROR_COMMENT, comment) if comment else b"")
        + _uid(_SOP_INSTANCE_UID, request.sop_instance_uid)
    )
    command = _head(0, 0, 4) + struct.pack("<I", len(body)) + body
    return _pdu(0x04, 0, len(command) + 6, len(command) + 2, request.context_id, _COMMAND_LAST) + command


def _uid(element: int, value: str) -> bytes:
    encoded = value.encode("ascii")
    encoded += b"\0" * (len(encoded) % 2)
    return _head(0, element, len(encoded)) + encoded


def _text(element: int, value: str) -> bytes:
    encoded = value.encode("ascii", "replace")
    encoded += b" " * (len(encoded) % 2)
    return _head(0, element, len(encoded)) + encoded
