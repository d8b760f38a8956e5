"""Minimal Lower Layer Protocol: one HL7 message out, its acknowledgement in (HL7 Transport Specification: MLLP, R1)."""

from __future__ import annotations

import socket
import ssl
import time

from node.dicom.tls import client_context
from node.errors import Hl7Rejected, NoResponse, PeerNotTrusted, PeerUnreachable, TlsUnusable
from node.hl7.framing import BlockReader, framed
from node.settings import Hl7Section

_LONGEST_ANSWER = 1 << 20


class MllpConnection:
    """A connection to a listener; a context manager.

    Raises
    ------
    PeerUnreachable, PeerNotTrusted
        No connection, or no TLS on it. Nothing was sent.
    """

    def __init__(self, section: Hl7Section) -> None:
        self._section = section
        self._socket: socket.socket | None = None
        self._reader = BlockReader(_LONGEST_ANSWER)
        self._blocks: list[bytes] = []

    def __enter__(self) -> MllpConnection:
        address = (self._section.host, self._section.port)
        try:
            self._socket = socket.create_connection(address, self._section.connect_timeout_seconds)
            if self._section.tls is not None:
                name = self._section.tls.server_name or self._section.host
                self._socket = client_context(self._section.tls, "tls").wrap_socket(self._socket, server_hostname=name)
        except TlsUnusable as error:
            self.close()
            raise PeerNotTrusted(f"{self}: {error.message}") from error
        except ssl.SSLError as error:
            self.close()
            reason = getattr(error, "verify_message", "") or (error.reason or "TLS error").replace("_", " ").lower()
            raise PeerNotTrusted(f"{self}: no TLS connection ({reason})") from error
        except OSError as error:
            self.close()
            raise PeerUnreachable(f"{self}: no connection ({error.strerror or type(error).__name__})") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self._section.host}:{self._section.port}"

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, message: bytes) -> None:
        """Send a message; raises NoResponse where the connection is lost: it may have arrived."""
        assert self._socket is not None  # used within the context
        self._socket.settimeout(self._section.response_timeout_seconds)
        try:
            self._socket.sendall(framed(message))
        except OSError as error:
            raise NoResponse(f"{self}: the connection was lost ({type(error).__name__})") from error

    def receive(self, until: float) -> bytes:
        """The next message.

        Parameters
        ----------
        until : float
            On the monotonic clock.

        Raises
        ------
        NoResponse
            None came in time, or the connection was lost.
        """
        while not self._blocks:
            chunk = self._chunk(until)
            try:
                self._blocks += self._reader.feed(chunk)
            except Hl7Rejected as error:
                raise NoResponse(f"{self}: the acknowledgement has no end") from error
        return self._blocks.pop(0)

    def _chunk(self, until: float) -> bytes:
        assert self._socket is not None  # used within the context
        left = until - time.monotonic()
        if left <= 0:
            raise NoResponse(f"{self}: no acknowledgement in time")
        self._socket.settimeout(left)
        try:
            chunk = self._socket.recv(65536)
        except TimeoutError as error:
            raise NoResponse(f"{self}: no acknowledgement in time") from error
        except OSError as error:
            raise NoResponse(f"{self}: the connection was lost ({type(error).__name__})") from error
        if not chunk:
            raise NoResponse(f"{self}: the connection was closed without an acknowledgement")
        return chunk
