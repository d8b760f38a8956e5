"""When certificates end, read from the certificates themselves, expired ones included.

The standard library tells it only of certificates that it has verified; so the two dates are read here from the DER
form (RFC 5280 4.1: Certificate, TBSCertificate, Validity).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from node.errors import TlsUnusable
from node.settings import ClientTlsSection, Settings

_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0
_PROBE_SECONDS = 5.0


def ends_at(der: bytes) -> datetime:
    """``notAfter`` of a certificate in DER.

    Raises
    ------
    ValueError
        It is no certificate.
    """
    certificate = _contents(der, 0, _SEQUENCE)[0]
    fields = _elements(_contents(certificate, 0, _SEQUENCE)[0])
    first_tag, _ = next(fields)
    # Version is optional and first; serial number, signature and issuer come before validity.
    for _ in range(3 if first_tag == _VERSION else 2):
        next(fields)
    tag, validity = next(fields)
    if tag != _SEQUENCE:
        raise ValueError("no validity where it should be")
    times = list(_elements(validity))
    return _time(*times[1])


def own_certificates(settings: Settings) -> list[tuple[str, Path]]:
    """Every certificate of this node that the configuration names: key and file."""
    found: list[tuple[str, Path]] = []
    if settings.receive.tls.enabled and settings.receive.tls.certificate is not None:
        found.append(("receive.tls.certificate", settings.receive.tls.certificate))
    sections: list[tuple[str, ClientTlsSection | None]] = []
    for kind, named in (
        ("destination", settings.destination),
        ("web_source", settings.web_source),
        ("channel", settings.channel),
    ):
        for name, section in named.items():
            sections.append((f"{kind}.{name}.tls", section.tls))
            if (told := getattr(section, "availability", None)) is not None:
                sections.append((f"{kind}.{name}.availability.tls", told.tls))
    sections += [("audit.tls", settings.audit.tls), ("canary.tls", settings.canary.tls)]
    for key, tls in sections:
        if tls is not None and tls.certificate is not None:
            found.append((f"{key}.certificate", tls.certificate))
    return found


def own_end(path: Path) -> datetime:
    """When the first certificate of a PEM file ends.

    Raises
    ------
    TlsUnusable
        It cannot be read or is none.
    """
    try:
        text = path.read_text(encoding="ascii", errors="replace")
        begin, end = text.index(ssl.PEM_HEADER), text.index(ssl.PEM_FOOTER)
        return ends_at(ssl.PEM_cert_to_DER_cert(text[begin:end] + ssl.PEM_FOOTER))
    except OSError as error:
        raise TlsUnusable(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, StopIteration, IndexError) as error:
        raise TlsUnusable(f"{path} holds no certificate in PEM") from error


def peer_end(host: str, port: int, tls: ClientTlsSection | None) -> datetime | None:
    """When the certificate ends that a TLS peer shows; None where it does not answer or shows none.

    It is not verified here: this asks only how long it lasts. Nothing is sent.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        if tls is not None and tls.certificate is not None and tls.key is not None:
            context.load_cert_chain(tls.certificate, tls.key, password="")
        with socket.create_connection((host, port), timeout=_PROBE_SECONDS) as plain:
            plain.settimeout(_PROBE_SECONDS)
            with context.wrap_socket(plain, server_hostname=(tls.server_name if tls else "") or host) as secured:
                der = secured.getpeercert(binary_form=True)
        return ends_at(der) if der else None
    except (OSError, ValueError, StopIteration, IndexError):
        # Who uses the peer meets the same and says so; here it only means that nothing is known.
        return None


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag = data[at]
        content, at = _contents(data, at, tag)
        yield tag, content


def _contents(data: bytes, at: int, tag: int) -> tuple[bytes, int]:
    """Contents of the element at an offset, and the offset after it (X.690 8.1)."""
    if data[at] != tag:
        raise ValueError(f"tag {data[at]:02x} where {tag:02x} should be")
    length, at = data[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        length, at = int.from_bytes(data[at : at + octets], "big"), at + octets
    if at + length > len(data):
        raise ValueError("it ends too early")
    return data[at : at + length], at + length


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280 4.1.2.5.1: years from 50 are of the last century.
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("a time of an unknown form")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
