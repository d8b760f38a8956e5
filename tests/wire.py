"""DICOM's upper layer as bytes, for peers that break its rules on purpose (PS3.8 section 9.3, PS3.7 section 9.3)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.network import MR

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
VERIFICATION = "1.2.840.10008.1.1"

ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RP, ABORT = 2, 3, 4, 6, 7
COMMAND, LAST = 0x01, 0x02
NO_DATA_SET, WITH_DATA_SET = 0x0101, 0x0001
RELEASE_REQUEST = struct.pack(">BBLL", 5, 0, 4, 0)
ABORT_REQUEST = struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 0, 0)

Context = tuple[str, str]
"""Abstract syntax and transfer syntax."""

DEFAULT_CONTEXTS: tuple[Context, ...] = ((VERIFICATION, IMPLICIT), (MR, EXPLICIT))


def item(kind: int, content: bytes) -> bytes:
    """Item or sub-item of an A-ASSOCIATE PDU."""
    return struct.pack(">BBH", kind, 0, len(content)) + content


def pdu(kind: int, content: bytes, *, length: int | None = None) -> bytes:
    """A PDU; ``length`` lies about what follows."""
    return struct.pack(">BBL", kind, 0, len(content) if length is None else length) + content


def associate_request(
    contexts: Sequence[Context] = DEFAULT_CONTEXTS, *, calling: str = "MODALITY", called: str = "AINODE"
) -> bytes:
    """A-ASSOCIATE-RQ; the contexts get the numbers 1, 3, 5, …"""
    proposals = b"".join(
        item(
            0x20,
            struct.pack(">BBBB", (2 * at + 1) % 256, 0, 0, 0)
            + item(0x30, abstract.encode())
            + item(0x40, syntax.encode()),
        )
        for at, (abstract, syntax) in enumerate(contexts)
    )
    user = item(0x50, item(0x51, struct.pack(">L", 0)) + item(0x52, b"1.2.3.4"))
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    return pdu(
        1, struct.pack(">HH", 1, 0) + titles + bytes(32) + item(0x10, b"1.2.840.10008.3.1.1.1") + proposals + user
    )


def pdv(context: int, control: int, content: bytes, *, length: int | None = None) -> bytes:
    """A presentation data value item; ``length`` lies about what follows."""
    return struct.pack(">LBB", len(content) + 2 if length is None else length, context, control) + content


def data(context: int, control: int, content: bytes) -> bytes:
    """A P-DATA-TF PDU with one value."""
    return pdu(P_DATA, pdv(context, control, content))


def command(elements: Iterable[tuple[int, bytes]]) -> bytes:
    """A command set: implicit VR little endian, with its group length."""
    body = b"".join(struct.pack("<HHL", 0, element, len(value)) + value for element, value in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def padded(uid: str) -> bytes:
    """A UID as it travels."""
    return uid.encode("latin-1") + b"\0" * (len(uid) % 2)


def store_command(
    sop_instance: str, *, sop_class: str = MR, message_id: int = 1, data_set: int = WITH_DATA_SET
) -> bytes:
    """C-STORE-RQ command set."""
    return command(
        [
            (0x0002, padded(sop_class)),
            (0x0100, struct.pack("<H", 0x0001)),
            (0x0110, struct.pack("<H", message_id)),
            (0x0700, struct.pack("<H", 0)),
            (0x0800, struct.pack("<H", data_set)),
            (0x1000, padded(sop_instance)),
        ]
    )


def echo_command(message_id: int = 1) -> bytes:
    """C-ECHO-RQ command set."""
    return command(
        [
            (0x0002, padded(VERIFICATION)),
            (0x0100, struct.pack("<H", 0x0030)),
            (0x0110, struct.pack("<H", message_id)),
            (0x0800, struct.pack("<H", NO_DATA_SET)),
        ]
    )


def store_message(
    sop_instance: str, data_set: bytes, *, context: int = 3, fragment_bytes: int = 16000, sop_class: str = MR
) -> bytes:
    """Every PDU of a C-STORE request."""
    fragments = [data_set[at : at + fragment_bytes] for at in range(0, len(data_set), fragment_bytes)]
    message = data(context, COMMAND | LAST, store_command(sop_instance, sop_class=sop_class))
    return message + b"".join(
        data(context, LAST if at == len(fragments) - 1 else 0, fragment) for at, fragment in enumerate(fragments)
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """One PDU of the other side; ``kind`` 0 stands for a closed connection."""

    kind: int
    content: bytes

    @property
    def status(self) -> int | None:
        """(0000,0900) of a response in one piece."""
        at = self.content.find(b"\x00\x00\x00\x09\x02\x00\x00\x00") if self.kind == P_DATA else -1
        return int.from_bytes(self.content[at + 8 : at + 10], "little") if at >= 0 else None


class WirePeer:
    """A connection on which anything may be said.

    Parameters
    ----------
    contexts : sequence of (abstract syntax, transfer syntax), or None
        None: connect, and say nothing yet.
    """

    def __init__(
        self, port: int, contexts: Sequence[Context] | None = DEFAULT_CONTEXTS, *, seconds: float = 20.0
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if contexts is not None:
            self.send(associate_request(contexts))
            answer = self.answer()
            if answer.kind != ASSOCIATE_AC:
                self.socket.close()
                raise ConnectionError(f"not accepted: PDU type {answer.kind}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, content: bytes) -> None:
        """Send bytes; a peer that has hung up is no error here, :meth:`answer` tells."""
        try:
            self.socket.sendall(content)
        except (BrokenPipeError, ConnectionResetError):
            return

    def answer(self) -> Answer:
        """The next PDU, or kind 0 at the end of the connection.

        Raises
        ------
        TimeoutError
            Neither came.
        """
        try:
            head = self._exactly(6)
            if len(head) < 6:
                return Answer(0, b"")
            return Answer(head[0], self._exactly(int.from_bytes(head[2:], "big")))
        except ConnectionResetError:
            return Answer(0, b"")

    def store(self, sop_instance: str, data_set: bytes, *, context: int = 3, sop_class: str = MR) -> int | None:
        """Status of a C-STORE; None where the association ended instead."""
        self.send(store_message(sop_instance, data_set, context=context, sop_class=sop_class))
        return self.answer().status

    def echo(self) -> int | None:
        """Status of a C-ECHO on context 1."""
        self.send(data(1, COMMAND | LAST, echo_command()))
        return self.answer().status

    def ended(self) -> bool:
        """Read to the end of the connection; whether it came within the time limit."""
        try:
            while self.answer().kind:
                continue
        except TimeoutError:
            return False
        return True

    def release(self) -> None:
        """Release in order, and close."""
        self.send(RELEASE_REQUEST)
        self.answer()
        self.close()

    def close(self) -> None:
        """Close the connection without a word."""
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            more = self.socket.recv(min(65536, count - len(received)))
            if not more:
                break
            received += more
        return bytes(received)
