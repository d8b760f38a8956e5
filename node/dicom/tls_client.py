"""TLS on associations this node opens: the reason of a failure, and reading that never waits for nothing."""

from __future__ import annotations

import socket
import ssl
from typing import Any, cast

from node.dicom.connection import PeerSocket


class Dialer:
    """Stands in for the context that pynetdicom is given, and keeps why a connection failed.

    Parameters
    ----------
    context : ssl.SSLContext
        A client's.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.failure: ssl.SSLError | None = None

    def wrap_socket(self, connection: socket.socket, *, server_side: bool, server_hostname: str) -> socket.socket:
        """As the context's method."""
        self._context.sslsocket_class = _Connection
        secured = self._context.wrap_socket(connection, server_side=server_side, server_hostname=server_hostname)
        cast(_Connection, secured).dialer = self
        return secured

    @property
    def reason(self) -> str:
        """The failure in a few words, empty where there was none."""
        if isinstance(self.failure, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {self.failure.verify_message}"
        if self.failure is not None:
            return (self.failure.reason or str(self.failure)).replace("_", " ").lower()
        return ""


class _Connection(ssl.SSLSocket):
    """Tells its dialer what went wrong, which pynetdicom only logs."""

    dialer: Dialer | None = None
    _ahead: bytes = b""

    @property
    def has_read_ahead(self) -> bool:
        """Whether a byte waits that the system does not know of any more."""
        return bool(self._ahead)

    def has_data(self) -> bool:
        """Whether a reading would get data, or the end; one byte of it is read ahead to be sure. Never waits."""
        if self._ahead or self.pending():
            return True
        limit = self.gettimeout()
        self.settimeout(0.0)
        try:
            self._ahead = self.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError as error:
            # The reading that follows meets the consequences and deals with them.
            self._note(error)
        finally:
            self.settimeout(limit)
        return True

    def connect(self, addr: Any) -> None:
        """As the base class.

        Raises
        ------
        ConnectionError
            Instead of the error of TLS, of which pynetdicom logs every call on the way.
        """
        try:
            super().connect(addr)
        except ssl.SSLError as error:
            self._note(error)
            raise ConnectionError(self.dialer.reason if self.dialer else str(error)) from error

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """As the base class, what was read ahead first.

        In TLS 1.3 the answer to our certificate comes with the first reading.
        """
        if self._ahead:
            buffer[:1], self._ahead = self._ahead, b""
            return 1
        try:
            return super().recv_into(buffer, nbytes, flags)
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError as error:
            self._note(error)
            raise

    def _note(self, error: OSError) -> None:
        # What follows the first failure is only its consequence.
        if isinstance(error, ssl.SSLError) and self.dialer is not None and self.dialer.failure is None:
            self.dialer.failure = error


class SecurePeerSocket(PeerSocket):
    """A TLS connection whose :attr:`ready` means data.

    After a handshake of TLS 1.3 the peer may send records that carry no data (session tickets). The system then calls
    the connection readable, and a reading would wait, with the request that should leave behind it in the same thread.
    """

    @property
    def ready(self) -> bool:
        """Whether data can be read."""
        connection = self.socket
        if isinstance(connection, _Connection) and connection.has_read_ahead:
            return True
        return super().ready and (not isinstance(connection, _Connection) or connection.has_data())
