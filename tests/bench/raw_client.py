"""A client of sockets and bytes, so that what is timed is the server's answer and not a library's polling."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom import dcmread
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

from tests.bench.stage import BenchmarkFailed

_VERIFICATION, _MR_IMAGE = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.4"
_FRAGMENT_BYTES = 16000
_ACCEPTED, _COMMAND, _LAST = 0x02, 0x01, 0x02


class RawAssociation:
    """An open association with one context for echo (1) and one for MR images (3); ``accept_seconds`` is its set-up."""

    def __init__(self, port: int) -> None:
        started = time.perf_counter()
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_association_request())
        if self._pdu()[0] != _ACCEPTED:
            raise BenchmarkFailed("the association was not accepted")
        self.accept_seconds = time.perf_counter() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._socket.sendall(struct.pack(">BBLL", 5, 0, 4, 0))
            self._pdu()
        self._socket.close()

    def echo(self) -> float:
        """Seconds of one C-ECHO."""
        command = _command([(0x0002, _uid(_VERIFICATION)), (0x0100, _us(0x30)), (0x0110, _us(1)), (0x0800, _us(0x101))])
        return self._timed(_data(1, _COMMAND | _LAST, command))

    def store(self, path: Path) -> float:
        """Seconds of one C-STORE of an MR image (reading the file excluded)."""
        header = dcmread(path, stop_before_pixels=True)
        content = path.read_bytes()
        data_set = content[144 + header.file_meta.FileMetaInformationGroupLength :]
        command = _command(
            [
                (0x0002, _uid(_MR_IMAGE)),
                (0x0100, _us(1)),
                (0x0110, _us(1)),
                (0x0700, _us(0)),
                (0x0800, _us(1)),
                (0x1000, _uid(str(header.SOPInstanceUID))),
            ]
        )
        parts = [data_set[at : at + _FRAGMENT_BYTES] for at in range(0, len(data_set), _FRAGMENT_BYTES)]
        message = _data(3, _COMMAND | _LAST, command)
        message += b"".join(_data(3, 0 if part is not parts[-1] else _LAST, part) for part in parts)
        return self._timed(message)

    def _timed(self, message: bytes) -> float:
        started = time.perf_counter()
        self._socket.sendall(message)
        answer = self._pdu()
        seconds = time.perf_counter() - started
        # Status (0000,0900) of the response, which is one PDU at all three servers.
        if b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00" not in answer:
            raise BenchmarkFailed("the request did not succeed")
        return seconds

    def _pdu(self) -> bytes:
        """One whole PDU; DCMTK sends a response's command in one, too."""
        head = self._exactly(6)
        return head + self._exactly(int.from_bytes(head[2:], "big"))

    def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            more = self._socket.recv(count - len(received))
            if not more:
                raise BenchmarkFailed("the server closed the connection")
            received += more
        return received


def _association_request() -> bytes:
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "RAW", "BENCH"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 0, "1.2.3.4"
    request.user_information = [length, implementation]
    contexts = [build_context(_VERIFICATION, "1.2.840.10008.1.2"), build_context(_MR_IMAGE, "1.2.840.10008.1.2.1")]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    request.presentation_context_definition_list = contexts
    return bytes(A_ASSOCIATE_RQ(request).encode())


def _data(context_id: int, control: int, content: bytes) -> bytes:
    return struct.pack(">BBLLBB", 4, 0, len(content) + 6, len(content) + 2, context_id, control) + content


def _command(elements: list[tuple[int, bytes]]) -> bytes:
    body = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _us(value: int) -> bytes:
    return struct.pack("<H", value)


def _uid(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)
