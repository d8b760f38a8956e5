"""TLS contexts of listener and destinations, by the BCP 195 profile of PS3.15 B.12 (RFC 8996, RFC 9325).

TLS 1.2 with authenticated encryption and forward secrecy, or TLS 1.3; no compression, no renegotiation, and no session
tickets, so that every connection shows its certificate to whatever the files say now. Standard library only: the
supervisor uses this too.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from node.errors import TlsUnusable
from node.file_state import file_state
from node.settings import ClientTlsSection, ServerTlsSection, Settings

logger = logging.getLogger(__name__)

# RFC 9325 4.2, for TLS 1.2. Those of TLS 1.3 are all good and not chosen here.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# X509_V_ERR codes of OpenSSL, x509_vfy.h.
NOT_YET_VALID, EXPIRED = 9, 10
# A handshake with itself takes three rounds in TLS 1.2, two in TLS 1.3.
_ROUNDS = 8


class _Role(StrEnum):
    SERVER = "server"
    CLIENT = "client"


def server_context(section: ServerTlsSection, where: str = "receive.tls") -> ssl.SSLContext:
    """Context of the listener. The files are tried out: what this accepts, works.

    Parameters
    ----------
    section : ServerTlsSection
        With certificate and key.
    where : str
        How messages name the section.

    Raises
    ------
    TlsUnusable
        A file cannot be read or is no PEM; key and certificate differ; the certificate is out of date.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _apply_profile(context, section.minimum_version)
    _load_pair(context, section.certificate, section.key, where, _Role.SERVER)
    if section.ca is not None:
        _load_authorities(context, section.ca, where)
        context.verify_mode = ssl.CERT_REQUIRED if section.require_client_certificate else ssl.CERT_OPTIONAL
    context.num_tickets = 0
    return context


def client_context(section: ClientTlsSection, where: str) -> ssl.SSLContext:
    """Context towards a destination, whose certificate must fit its name; raises as :func:`server_context`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _apply_profile(context, section.minimum_version)
    if section.certificate is not None:
        _load_pair(context, section.certificate, section.key, where, _Role.CLIENT)
    if section.ca is not None:
        _load_authorities(context, section.ca, where)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def check(settings: Settings) -> datetime | None:
    """Try out every file that the configuration names; return when the first of the node's certificates expires.

    Raises
    ------
    TlsUnusable
        As :func:`server_context`.
    """
    ends: list[datetime] = []
    for where, listener in _server_sections(settings):
        server_context(listener, where)
        ends.append(_valid_until(listener, where, _Role.SERVER))
    for where, section in _client_sections(settings):
        client_context(section, where)
        if section.certificate is not None:
            ends.append(_valid_until(section, where, _Role.CLIENT))
    return min(ends, default=None)


def _server_sections(settings: Settings) -> Iterator[tuple[str, ServerTlsSection]]:
    """Every table of TLS of a listener that is on, with its name in the configuration."""
    if settings.receive.tls.enabled:
        yield "receive.tls", settings.receive.tls
    if settings.hl7.enabled and settings.hl7.tls.enabled:
        yield "hl7.tls", settings.hl7.tls


def _client_sections(settings: Settings) -> Iterator[tuple[str, ClientTlsSection]]:
    """Every table of TLS towards somebody, with its name in the configuration."""
    kinds: dict[str, Mapping[str, Any]] = {
        "destination": settings.destination,
        "web_source": settings.web_source,
        "channel": settings.channel,
        "workitems": settings.workitems,
    }
    for kind, sections in kinds.items():
        for name, section in sections.items():
            told = getattr(section, "availability", None)
            for where, found in ((f"{kind}.{name}", section), (f"{kind}.{name}.availability", told)):
                if (tls := getattr(found, "tls", None)) is not None:
                    yield f"{where}.tls", tls
    for name, single in (("audit", settings.audit.tls), ("canary", settings.canary.tls)):
        if single is not None:
            yield f"{name}.tls", single


class RotatingContext:
    """A context that follows its files: a changed file is read at the next use; running connections keep theirs.

    Parameters
    ----------
    build : callable
        Makes the context; may raise TlsUnusable.
    files : sequence of Path
    tell : callable
        Called with None after a change was taken over, with the error where the changed files cannot be used. Then the
        former context stays in use, and where there is none, there is no TLS until the files are good.
    """

    def __init__(
        self,
        build: Callable[[], ssl.SSLContext],
        files: Sequence[Path],
        tell: Callable[[TlsUnusable | None], None] = lambda error: None,
    ) -> None:
        self._build = build
        self._files = tuple(files)
        self._tell = tell
        self._guard = threading.Lock()
        self._read: tuple[Any, ...] = ()
        self._context: ssl.SSLContext | None = None

    @classmethod
    def of_listener(
        cls,
        section: ServerTlsSection,
        tell: Callable[[TlsUnusable | None], None] = lambda error: None,
        *,
        where: str = "receive.tls",
    ) -> RotatingContext:
        """A listener's context."""
        files = [path for path in (section.certificate, section.key, section.ca) if path is not None]
        return cls(lambda: server_context(section, where), files, tell)

    def current(self) -> ssl.SSLContext | None:
        """The context of the files as they are, or the last that could be used; None where none ever could."""
        with self._guard:
            # Before reading: a change while they are read is found the next time.
            state = tuple(map(file_state, self._files))
            if state == self._read:
                return self._context
            first = not self._read
            self._read = state
            try:
                self._context = self._build()
            except TlsUnusable as error:
                kept = "the former certificate stays in use" if self._context else "no TLS until it is corrected"
                logger.error("%s; %s", error, kept)
                self._tell(error)
            else:
                if not first:
                    logger.info("new TLS files are in use")
                    self._tell(None)
            return self._context


def certificate_names(certificate: dict[str, Any] | None) -> tuple[str, ...]:
    """Subject alternative names and common names of a verified peer certificate, as ``getpeercert`` gives it."""
    if not certificate:
        return ()
    alternative = [value for _, value in certificate.get("subjectAltName", ())]
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return tuple(dict.fromkeys([*alternative, *common]))


def _apply_profile(context: ssl.SSLContext, minimum_version: str) -> None:
    context.minimum_version = _MINIMUM[minimum_version]
    context.set_ciphers(":".join(CIPHERS))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE


def _load_pair(context: ssl.SSLContext, certificate: Path | None, key: Path | None, where: str, role: _Role) -> None:
    assert certificate is not None
    assert key is not None  # the settings hold both or none
    _readable(certificate, f"{where}.certificate")
    _readable(key, f"{where}.key")
    try:
        # An empty passphrase, because OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsUnusable(
                f"{where}.key: {key} is not the key of {certificate}; name the pair that belongs together"
            ) from error
        raise TlsUnusable(
            f"{where}.certificate, key: {certificate} and {key} cannot be used ({_words(error)}); both must be PEM, the "
            "key without a passphrase, the certificate first in its file"
        ) from error
    _try_out(certificate, key, where, role)


def _load_authorities(context: ssl.SSLContext, ca: Path, where: str) -> None:
    _readable(ca, f"{where}.ca")
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise TlsUnusable(f"{where}.ca: {ca} holds no certificates in PEM ({_words(error)})") from error
    ends = [_as_time(str(found["notAfter"])) for found in context.get_ca_certs()]
    if ends and max(ends) < datetime.now(UTC):
        raise TlsUnusable(f"{where}.ca: every authority in {ca} has expired; get the current ones")


def _try_out(certificate: Path, key: Path, where: str, role: _Role) -> dict[str, Any]:
    """Shake hands with a peer in memory that trusts this one certificate; return what it saw.

    The standard library reads no certificate by itself, but the peer of a handshake is told all of it.
    """
    judge = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if role is _Role.SERVER else ssl.PROTOCOL_TLS_SERVER)
    judge.check_hostname = False
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    judge.load_verify_locations(cafile=certificate)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if role is _Role.SERVER else ssl.PROTOCOL_TLS_CLIENT)
    own.check_hostname = False
    own.verify_mode = ssl.CERT_NONE
    for each in (own, judge):
        _apply_profile(each, "1.2")
    own.load_cert_chain(certificate, key, password="")
    if role is _Role.CLIENT:
        judge.load_cert_chain(certificate, key, password="")
    forth, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    own_end = own.wrap_bio(forth, back, server_side=role is _Role.SERVER)
    judging_end = judge.wrap_bio(back, forth, server_side=role is not _Role.SERVER)
    try:
        for _ in range(_ROUNDS):
            for end in (own_end, judging_end):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLCertVerificationError as error:
        remedy = "; renew it" if error.verify_code == EXPIRED else ""
        raise TlsUnusable(f"{where}.certificate: {certificate}: {error.verify_message}{remedy}") from error
    except ssl.SSLError as error:
        raise TlsUnusable(f"{where}.certificate: {certificate} cannot be used for TLS ({_words(error)})") from error
    return judging_end.getpeercert() or {}


def _valid_until(section: ServerTlsSection | ClientTlsSection, where: str, role: _Role) -> datetime:
    assert section.certificate is not None
    assert section.key is not None
    return _as_time(_try_out(section.certificate, section.key, where, role)["notAfter"])


def _readable(path: Path, where: str) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise TlsUnusable(
            f"{where}: {path} cannot be read ({error.strerror}); correct the path or its permissions"
        ) from error


def _as_time(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)


def _words(error: ssl.SSLError) -> str:
    return (error.reason or error.strerror or str(error)).replace("_", " ").lower()
