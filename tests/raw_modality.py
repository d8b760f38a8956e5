"""A modality of sockets and bytes: it sends any P-DATA it is asked to, right or wrong."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

from tests.network import MR, Node

VERIFICATION = "1.2.840.10008.1.1"
ECHO_CONTEXT, IMAGE_CONTEXT = 1, 3
COMMAND, DATA, LAST = 0x01, 0x00, 0x02


class RawModality:
    """An open association: context 1 for echo, 3 for MR images in Explicit VR Little Endian."""

    def __init__(self, node: Node, *, timeout_seconds: float = 10.0) -> None:
        self.socket = socket.create_connection((node.host, node.port), timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(_association_request())
        assert self.pdu()[:1] == b"\x02", "the association was not accepted"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def pdu(self) -> bytes:
        """The next PDU; empty when the peer closed the connection."""
        head = self._exactly(6)
        return head + self._exactly(int.from_bytes(head[2:], "big")) if len(head) == 6 else b""

    def status(self) -> int:
        """Status of the response that comes next."""
        answer = self.pdu()
        assert answer[:1] == b"\x04", answer[:20]
        at = answer.index(b"\x00\x00\x00\x09\x02\x00\x00\x00")
        return int.from_bytes(answer[at + 8 : at + 10], "little")

    def is_over(self) -> bool:
        """Read on until the association ends, by an abort or by a closed connection."""
        try:
            while answer := self.pdu():
                if answer[0] == 0x07:
                    return True
        except ConnectionError:
            return True
        return True

    def echo(self) -> int:
        """Status of a C-ECHO."""
        command = command_set(
            [(0x0002, _uid(VERIFICATION)), (0x0100, _us(0x30)), (0x0110, _us(7)), (0x0800, _us(0x101))]
        )
        self.socket.sendall(p_data(fragment(ECHO_CONTEXT, COMMAND | LAST, command)))
        return self.status()

    def release(self) -> None:
        """Release, and wait for the answer."""
        self.socket.sendall(RELEASE)
        assert self.pdu()[:1] == b"\x06"

    def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            more = self.socket.recv(count - len(received))
            if not more:
                return b""
            received += more
        return received


RELEASE = struct.pack(">BBLL", 5, 0, 4, 0)
ABORT = struct.pack(">BBLL", 7, 0, 4, 0)


def store_command(sop_instance_uid: str, *, message_id: int = 1, sop_class_uid: str = MR) -> bytes:
    """Command set of a C-STORE-RQ."""
    return command_set(
        [
            (0x0002, _uid(sop_class_uid)),
            (0x0100, _us(1)),
            (0x0110, _us(message_id)),
            (0x0700, _us(0)),
            (0x0800, _us(1)),
            (0x1000, _uid(sop_instance_uid)),
        ]
    )


def command_set(elements: Iterable[tuple[int, bytes]]) -> bytes:
    """A whole command set, with its group length."""
    body = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def fragment(context_id: int, control: int, content: bytes, *, length: int | None = None) -> bytes:
    """A presentation data value; ``length`` may lie."""
    return struct.pack(">LBB", len(content) + 2 if length is None else length, context_id, control) + content


def p_data(*fragments: bytes, length: int | None = None) -> bytes:
    """A P-DATA-TF PDU; ``length`` may lie."""
    content = b"".join(fragments)
    return struct.pack(">BBL", 4, 0, len(content) if length is None else length) + content


def data_fragments(data: bytes, size: int) -> list[bytes]:
    """A data set in fragments of ``size`` bytes."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    last = len(parts) - 1
    return [fragment(IMAGE_CONTEXT, LAST if at == last else DATA, part) for at, part in enumerate(parts)]


def _association_request() -> bytes:
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "MODALITY", "AINODE"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 0, "1.2.3.4"
    request.user_information = [length, implementation]
    contexts = [build_context(VERIFICATION, "1.2.840.10008.1.2"), build_context(MR, "1.2.840.10008.1.2.1")]
    for context, number in zip(contexts, (ECHO_CONTEXT, IMAGE_CONTEXT), strict=True):
        context.context_id = number
    request.presentation_context_definition_list = contexts
    return bytes(A_ASSOCIATE_RQ(request).encode())


def _us(value: int) -> bytes:
    return struct.pack("<H", value)


def _uid(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)
