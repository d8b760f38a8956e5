"""C-STORE commands by hand, against what pynetdicom makes and reads."""

from __future__ import annotations

import random
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode
from pynetdicom.pdu import P_DATA_TF

from node.dicom.store_command import StoreRequest, read_store_request, store_response

REQUEST = StoreRequest(5, 4711, str(CTImageStorage), "1.2.3.44.5")


def encoded_request(**changes: object) -> bytes:
    """Command set of a C-STORE-RQ as pynetdicom sends it."""
    primitive = C_STORE()
    primitive.MessageID = 4711
    primitive.AffectedSOPClassUID = CTImageStorage
    primitive.AffectedSOPInstanceUID = "1.2.3.44.5"
    primitive.Priority = 2
    primitive.DataSet = BytesIO(b"\0\0")
    for name, value in changes.items():
        setattr(primitive, name, value)
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    ((_, content),) = next(iter(message.encode_msg(5, 0))).presentation_data_value_list
    return bytes(content[1:])


def test_a_library_s_request_is_read() -> None:
    assert read_store_request(encoded_request(), 5) == REQUEST
    moved = encoded_request(MoveOriginatorApplicationEntityTitle="PACS", MoveOriginatorMessageID=3)
    assert read_store_request(moved, 5) == replace(REQUEST, move_originator="PACS")


@pytest.mark.parametrize(("status", "comment"), [(0x0000, ""), (0xA700, "odd"), (0xC000, "what happened, été")])
def test_a_library_reads_the_response(status: int, comment: str) -> None:
    pdu = P_DATA_TF()
    pdu.decode(store_response(REQUEST, status, comment))
    message = C_STORE_RSP()
    assert message.decode_msg(pdu.to_primitive())
    assert message.context_id == 5
    answer = message.message_to_primitive()
    assert (answer.MessageIDBeingRespondedTo, answer.Status) == (4711, status)
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == (CTImageStorage, "1.2.3.44.5")
    assert (answer.ErrorComment or "") == comment.replace("é", "?")
    command = decode(BytesIO(store_response(REQUEST, status, comment)[12:]), True, True)
    assert command.CommandGroupLength == len(store_response(REQUEST, status, comment)) - 12 - 12


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        encoded_request()[:-1],
        encoded_request() + b"\0",
        encoded_request() + encoded_request(),
        encoded_request().replace(b"1.2.3.44.5", b"1.2.3/44.5"),
        encoded_request().replace(b"1.2.3.44.5", b" " * 10),
        # No data set follows; C-STORE-RSP; C-ECHO-RQ.
        encoded_request().replace(
            b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x00", b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01"
        ),
        encoded_request().replace(
            b"\x00\x00\x00\x01\x02\x00\x00\x00\x01\x00", b"\x00\x00\x00\x01\x02\x00\x00\x00\x01\x80"
        ),
        encoded_request().replace(
            b"\x00\x00\x00\x01\x02\x00\x00\x00\x01\x00", b"\x00\x00\x00\x01\x02\x00\x00\x00\x30\x00"
        ),
    ],
)
def test_what_is_odd_is_left_alone(odd: bytes) -> None:
    assert odd != encoded_request()
    assert read_store_request(odd, 5) is None


def test_no_bytes_break_it() -> None:
    dice = random.Random(1)
    good = encoded_request()
    for _ in range(20_000):
        changed = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        found = read_store_request(bytes(changed), 5)
        assert found is None or len(found.sop_instance_uid) <= 64
