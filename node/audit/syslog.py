"""Syslog transports for audit messages (PS3.15 A.6 and A.7): RFC 5425 over TLS, RFC 5426 over UDP."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime

from node.dicom.tls import client_context
from node.errors import NoResponse, PeerNotTrusted, PeerUnreachable, TlsUnusable
from node.settings import AuditSection, ClientTlsSection

# Facility 10 (security and authorisation), severity 5 (notice): PS3.15 A.6.
PRIORITY = 10 * 8 + 5
MESSAGE_ID = "DICOM+RFC3881"
_BOM = "\ufeff"


def syslog_line(xml: str, at: float, *, host: str, application: str = "ainode") -> bytes:
    """An RFC 5424 message with an audit message in it."""
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    header = f"<{PRIORITY}>1 {moment} {host} {application} {os.getpid()} {MESSAGE_ID} - "
    return (header + _BOM + xml).encode("utf-8")


def send_all(section: AuditSection, messages: Sequence[bytes]) -> None:
    """Hand messages over, all of them or with an error.

    Over TLS the connection is closed in order and the repository's own close is awaited: syslog has no acknowledgement,
    and this is as near as it gets. After an error everything is sent again; so a message may come twice, but never not.

    Raises
    ------
    PeerNotTrusted, PeerUnreachable, NoResponse
    """
    if section.transport == "udp":
        _send_datagrams(section, messages)
        return
    with _connected(section) as connection:
        try:
            for message in messages:
                # RFC 5425 4.3: octet counting.
                connection.sendall(b"%d %b" % (len(message), message))
            plain = connection.unwrap()
            plain.close()
        except ssl.SSLEOFError:
            return  # it closed the connection without saying goodbye, after it had taken everything
        except OSError as error:
            raise NoResponse(f"{_where(section)}: the connection was lost ({type(error).__name__})") from error


def _connected(section: AuditSection) -> ssl.SSLSocket:
    try:
        context = client_context(section.tls or ClientTlsSection(), "audit.tls")
    except TlsUnusable as error:
        raise PeerNotTrusted(f"{_where(section)}: {error.message}") from error
    name = (section.tls.server_name if section.tls is not None else "") or section.host
    try:
        plain = socket.create_connection((section.host, section.port), timeout=section.connect_timeout_seconds)
        plain.settimeout(section.connect_timeout_seconds)
        return context.wrap_socket(plain, server_hostname=name)
    except ssl.SSLError as error:
        why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else (error.reason or "TLS error")
        raise PeerNotTrusted(f"{_where(section)}: no TLS connection ({why})") from error
    except OSError as error:
        raise PeerUnreachable(f"{_where(section)}: no connection ({type(error).__name__})") from error


def _send_datagrams(section: AuditSection, messages: Sequence[bytes]) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(section.host, section.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as connection:
            for message in messages:
                connection.sendto(message, address)
    except OSError as error:
        raise PeerUnreachable(f"{_where(section)}: a datagram could not be sent ({type(error).__name__})") from error


def _where(section: AuditSection) -> str:
    return f"audit repository {section.host}:{section.port}"
