"""The handshake of the TLS listener, in the connection's own thread and within a time limit."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable
from enum import StrEnum

from node.dicom.tls import EXPIRED, NOT_YET_VALID, RotatingContext

logger = logging.getLogger(__name__)

_HANDSHAKE_RECORD = b"\x16"  # RFC 8446 5.1
_FAREWELL_SECONDS = 1.0
_FAREWELL_BYTES = 65536


class TlsRefusal(StrEnum):
    """Why a connection to the TLS port is refused; the value stands in the ledger."""

    PLAINTEXT = "no TLS"
    NO_CERTIFICATE = "no certificate"
    UNTRUSTED = "certificate not from a trusted authority"
    EXPIRED = "certificate expired"
    NOT_YET_VALID = "certificate not yet valid"
    VERSION = "TLS version too old"
    CIPHER = "no cipher in common"
    NOT_TRUSTED_BY_PEER = "the peer does not accept this node's certificate"
    SILENT = "handshake not finished in time"
    BROKEN = "handshake broken off"
    UNAVAILABLE = "this node's certificate cannot be used"


_BY_REASON = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": TlsRefusal.NO_CERTIFICATE,
    "UNSUPPORTED_PROTOCOL": TlsRefusal.VERSION,
    "VERSION_TOO_LOW": TlsRefusal.VERSION,
    "NO_PROTOCOLS_AVAILABLE": TlsRefusal.VERSION,
    "NO_SHARED_CIPHER": TlsRefusal.CIPHER,
    "WRONG_VERSION_NUMBER": TlsRefusal.PLAINTEXT,
    "HTTP_REQUEST": TlsRefusal.PLAINTEXT,
    "TLSV1_ALERT_UNKNOWN_CA": TlsRefusal.NOT_TRUSTED_BY_PEER,
    "SSLV3_ALERT_BAD_CERTIFICATE": TlsRefusal.NOT_TRUSTED_BY_PEER,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": TlsRefusal.NOT_TRUSTED_BY_PEER,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": TlsRefusal.NOT_TRUSTED_BY_PEER,
    "TLSV1_ALERT_PROTOCOL_VERSION": TlsRefusal.VERSION,
}
_BY_VERIFY_CODE = {EXPIRED: TlsRefusal.EXPIRED, NOT_YET_VALID: TlsRefusal.NOT_YET_VALID}


class TlsGate:
    """Turns accepted connections into TLS ones, or refuses them.

    Parameters
    ----------
    context : RotatingContext
    seconds : float
        For a whole handshake, however slowly its bytes come.
    refused : callable
        Told why, and the numeric address.
    """

    def __init__(self, context: RotatingContext, *, seconds: float, refused: Callable[[TlsRefusal, str], None]) -> None:
        self._context = context
        self._seconds = seconds
        self._refused = refused

    def admit(self, connection: socket.socket, address: str) -> ssl.SSLSocket | None:
        """Shake hands; None where the connection was refused, and then it is closed.

        Parameters
        ----------
        connection : socket.socket
            A byte at least waits to be read. Not to be used afterwards.
        """
        context = self._context.current()
        if context is None:
            self._refuse(connection, address, TlsRefusal.UNAVAILABLE)
            return None
        try:
            connection.settimeout(self._seconds)
            if connection.recv(1, socket.MSG_PEEK) != _HANDSHAKE_RECORD:
                self._refuse(connection, address, TlsRefusal.PLAINTEXT)
                return None
            secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            connection = secured
            secured.do_handshake()
        except OSError as error:
            logger.info("TLS handshake with %s failed: %s", address, error)
            self._refuse(connection, address, refusal_of(error))
            return None
        return secured

    def _refuse(self, connection: socket.socket, address: str, reason: TlsRefusal) -> None:
        _farewell(connection)
        self._refused(reason, address)


def refusal_of(error: OSError) -> TlsRefusal:
    """The reason that an error of a handshake stands for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFY_CODE.get(error.verify_code, TlsRefusal.UNTRUSTED)
    if isinstance(error, ssl.SSLError) and error.reason in _BY_REASON:
        return _BY_REASON[error.reason]
    return TlsRefusal.SILENT if isinstance(error, TimeoutError) else TlsRefusal.BROKEN


def _farewell(connection: socket.socket) -> None:
    """Close so that the peer can read the alert: unread bytes at a close would destroy it on the way (RFC 1122)."""
    try:
        # The plain methods, because TLS is over on this connection.
        socket.socket.shutdown(connection, socket.SHUT_WR)
        left, until = _FAREWELL_BYTES, time.monotonic() + _FAREWELL_SECONDS
        # As a whole, not for each read: who sends a byte now and then would hold the connection for hours.
        while left > 0 and (seconds := until - time.monotonic()) > 0:
            connection.settimeout(seconds)
            data = socket.socket.recv(connection, 4096)
            if not data:
                break
            left -= len(data)
    except OSError:
        pass  # gone already: nobody to tell
    finally:
        connection.close()
