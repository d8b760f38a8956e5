"""The sending lane: an object goes from its file to the connection in the thread that sends it.

pynetdicom negotiates, and keeps every other service; it hands each fragment of an object through queues and threads,
which costs ten times what the work itself does. The lane writes the C-STORE request by hand and the data set straight
from the mapped file, and reads the response itself. What else arrives meanwhile (a commitment answer, an abort) is
passed on to pynetdicom untouched, and in order.

While the lane holds the connection pynetdicom's upper layer does not read from it, so that no response is ever lost
between two readers, and does not write into the middle of a message.
"""

from __future__ import annotations

import mmap
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

from node.dicom.connection import PeerSocket, hard_close
from node.dicom.store_command import StoreResponse, data_set_follows, read_store_response, store_request
from node.errors import SpoolDamaged

_P_DATA = 0x04
_HEADER_BYTES = 6
_COMMAND, _LAST = 0x01, 0x02
_ESTABLISHED = "Sta6"
# A system call takes so many pieces at most (IOV_MAX of Linux is 1024).
_PIECES = 1000
_IDLE_SECONDS = 0.05
# What a peer without a limit of its own gets at once (PS3.8 D.1: maximum length 0 is no limit).
_UNLIMITED_PDU_BYTES = 1 << 20
_SMALLEST_PDU_BYTES = 512
_BUFFER_BYTES = 4096
# What is smaller is read: mapping costs more than it saves.
_MAPPED_BYTES = 1 << 17
_LONGEST_COMMAND_BYTES = 65536

_pdu = struct.Struct(">BBLLBB").pack
_pdu_length = struct.Struct(">xxL").unpack
_fragment = struct.Struct(">LBB").unpack_from


class ConnectionLost(Exception):
    """The connection ended, or the peer was silent for too long; whether the object is stored is not known."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One object as it goes out.

    Attributes
    ----------
    dataset : bytes-like
        The encoded data set in the transfer syntax of the context.
    """

    sop_class_uid: str
    sop_instance_uid: str
    dataset: memoryview


class _HoldingProvider(DULServiceProvider):
    """pynetdicom's upper layer, which leaves the connection alone while the lane holds it."""

    turn: threading.Lock
    quiet: threading.Condition
    held: bool

    def _is_transport_event(self) -> bool:
        with self.turn:
            if not self.held:
                return super()._is_transport_event()
        with self.quiet:
            # Instead of a look a thousand times a second; whatever it has to write is not kept waiting for long.
            self.quiet.wait_for(lambda: not self.held, _IDLE_SECONDS)
        return False

    def _send(self, pdu: Any) -> None:
        with self.turn:
            super()._send(pdu)


class SendingLane:
    """The lane of one association that this node opened, with its reactor parked.

    Parameters
    ----------
    association : Association
        Connected; the lane is made before anything is read from the connection.
    """

    def __init__(self, association: Association) -> None:
        self._association = association
        provider: Any = association.dul
        provider.turn, provider.quiet, provider.held = threading.Lock(), threading.Condition(), False
        provider.__class__ = _HoldingProvider
        self._provider = cast(_HoldingProvider, provider)
        self._buffer = bytearray(_BUFFER_BYTES)

    def store(self, outgoing: Outgoing, *, context_id: int, message_id: int, seconds: float) -> StoreResponse:
        """Send one object and wait for the response.

        Parameters
        ----------
        seconds : float
            For the whole exchange.

        Raises
        ------
        ConnectionLost
            No response came. The association is of no use any more.
        """
        wire = self._provider.socket
        if not isinstance(wire, PeerSocket) or wire.socket is None:
            raise ConnectionLost("the connection is closed")
        until = time.monotonic() + seconds
        with self._held():
            if self._provider.state_machine.current_state != _ESTABLISHED:
                raise ConnectionLost("the association has ended")
            try:
                with self._provider.turn:
                    _write(wire.socket, self._pieces(outgoing, context_id, message_id), until)
                return self._response(wire, message_id, until)
            except (OSError, ValueError) as error:
                # What is left of the message would be read as nonsense: nothing more goes over this connection.
                hard_close(self._association)
                words = str(error) or type(error).__name__
                raise ConnectionLost(words) from error

    @contextmanager
    def _held(self) -> Iterator[None]:
        provider = self._provider
        with provider.turn:
            provider.held = True
        try:
            yield
        finally:
            with provider.quiet:
                provider.held = False
                provider.quiet.notify_all()

    def _pieces(self, outgoing: Outgoing, context_id: int, message_id: int) -> list[bytes | memoryview]:
        """The message as P-DATA-TF PDUs: headers, and slices of the data set."""
        command = store_request(outgoing.sop_class_uid, outgoing.sop_instance_uid, message_id)
        length = len(command)
        pieces: list[bytes | memoryview] = [
            _pdu(_P_DATA, 0, length + 6, length + 2, context_id, _COMMAND | _LAST) + command
        ]
        largest = self._association.acceptor.maximum_length or _UNLIMITED_PDU_BYTES
        dataset, step, end = outgoing.dataset, max(largest, _SMALLEST_PDU_BYTES) - _HEADER_BYTES, len(outgoing.dataset)
        for start in range(0, end, step):
            stop = min(start + step, end)
            size = stop - start
            pieces.append(_pdu(_P_DATA, 0, size + 6, size + 2, context_id, _LAST if stop == end else 0))
            pieces.append(dataset[start:stop])
        return pieces

    def _response(self, wire: PeerSocket, message_id: int, until: float) -> StoreResponse:
        """Read until the response is there; every other message is passed on."""
        command, pdus, of_foreign = bytearray(), [], False
        while True:
            if time.monotonic() > until:
                raise TimeoutError("no response within the time limit")
            pdu = _read_pdu(wire, self._buffer)
            if pdu[0] != _P_DATA:
                self._pass_on([pdu])
                raise ConnectionResetError("the peer ended the association")
            pdus.append(pdu)
            for control, content in _fragments(pdu):
                if not control & _COMMAND:
                    of_foreign = not control & _LAST
                    continue
                command += content
                if len(command) > _LONGEST_COMMAND_BYTES:
                    raise ValueError("a command without an end")
                if not control & _LAST:
                    continue
                if (response := read_store_response(bytes(command))) is not None:
                    if response.message_id != message_id:
                        raise ValueError("a response to another C-STORE than the one sent")
                    return response
                of_foreign = data_set_follows(bytes(command))
                command.clear()
            if not command and not of_foreign:
                self._pass_on(pdus)
                pdus = []

    def _pass_on(self, pdus: Sequence[bytearray]) -> None:
        for pdu in pdus:
            decoded, event = self._provider._decode_pdu(pdu)
            self._provider._recv_pdu.put(decoded)
            self._provider.event_queue.put(event)


def mapped(path: Path, offset: int) -> memoryview:
    """A file's bytes from ``offset`` on, without reading a large file into memory.

    It is unmapped with the last reference to it: an error on its way up may still hold one.

    Raises
    ------
    SpoolDamaged
        It cannot be opened, or is empty.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            if os.fstat(stream.fileno()).st_size >= _MAPPED_BYTES:
                return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))[offset:]
            stream.seek(offset)
            return memoryview(stream.read())
    except (OSError, ValueError) as error:
        raise SpoolDamaged(f"{path.name}: cannot be read ({error})") from error


def _write(connection: socket.socket, pieces: list[bytes | memoryview], until: float) -> None:
    """Write everything; the connection's own time limit ends each wait for the peer, ``until`` the whole."""
    if isinstance(connection, ssl.SSLSocket):
        for start in range(0, len(pieces), 2):
            connection.sendall(b"".join(pieces[start : start + 2]))
            _in_time(until)
        return
    first, skip = 0, 0
    while first < len(pieces):
        batch = pieces[first : first + _PIECES]
        if skip:
            batch[0] = memoryview(batch[0])[skip:]
        sent = connection.sendmsg(batch)
        _in_time(until)
        for piece in batch:
            if sent < len(piece):
                break
            sent -= len(piece)
            first, skip = first + 1, 0
        skip += sent


def _in_time(until: float) -> None:
    if time.monotonic() > until:
        raise TimeoutError("the peer takes the object too slowly")


def _read_pdu(wire: PeerSocket, buffer: bytearray) -> bytearray:
    """One PDU. A response mostly comes in one piece, so that one reading does."""
    connection = wire.socket
    if connection is None or wire.is_foreign or wire.has_read_ahead:
        return _in_two_readings(wire)
    wire.acknowledge_at_once(connection)
    count = connection.recv_into(buffer)
    if count >= _HEADER_BYTES:
        end = _HEADER_BYTES + _pdu_length(buffer[:_HEADER_BYTES])[0]
        if end <= count and buffer[0] == _P_DATA:
            if end < count:
                wire.unread(memoryview(buffer)[end:count])
            return buffer[:end]
    if count:
        wire.unread(memoryview(buffer)[:count])
    return _in_two_readings(wire)


def _in_two_readings(wire: PeerSocket) -> bytearray:
    header = wire.recv(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or wire.is_foreign:
        raise ConnectionResetError("the peer closed the connection")
    (length,) = _pdu_length(header)
    body = wire.recv(length)
    if len(body) < length:
        raise ConnectionResetError("the peer closed the connection")
    return header + body


def _fragments(pdu: bytearray) -> Iterator[tuple[int, memoryview]]:
    """Message control header (PS3.8 E.2) and content of each presentation data value."""
    position, end = _HEADER_BYTES, len(pdu)
    while position + 6 <= end:
        length, _, control = _fragment(pdu, position)
        stop = position + 4 + length
        if length < 2 or stop > end:
            raise ValueError("a fragment of a length that cannot be")
        yield control, memoryview(pdu)[position + 6 : stop]
        position = stop
    if position != end:
        raise ValueError("a fragment of a length that cannot be")
