"""The one way this node calls web services: TLS by the node's profile, identity, time limits, errors of one tree."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from node.dicom.passcodes import read_passcode
from node.dicom.tls import client_context
from node.dicomweb.oauth import ClientCredentials
from node.errors import (
    NoResponse,
    PeerBusy,
    PeerError,
    PeerNotTrusted,
    PeerRejectedObject,
    PeerUnreachable,
    TlsUnusable,
    UsersUnusable,
    WebNotAuthorised,
)
from node.settings import ClientTlsSection, DestinationSection, OAuthSection, SourceSection

# RFC 9110: what may be otherwise in a while.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
_LONGEST_WORDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPeer:
    """A web service and how this node shows itself there.

    Attributes
    ----------
    url : str
        Base of every resource, without a slash at its end.
    connect_timeout_seconds, response_timeout_seconds : float
        For the connection, and for each wait on it afterwards.
    """

    url: str
    connect_timeout_seconds: float = 10.0
    response_timeout_seconds: float = 60.0
    tls: ClientTlsSection | None = None
    username: str = ""
    passcode_file: Path | None = None
    oauth: OAuthSection | None = None

    @classmethod
    def of(cls, section: DestinationSection | SourceSection) -> WebPeer:
        """The service that a section describes."""
        return cls(
            url=section.url.rstrip("/"),
            connect_timeout_seconds=section.connect_timeout_seconds,
            response_timeout_seconds=section.response_timeout_seconds,
            tls=section.tls,
            username=section.username,
            passcode_file=section.passcode_file,
            oauth=section.oauth,
        )

    def __str__(self) -> str:
        return self.url


class WebClient:
    """Connections to one service, kept open between requests; a context manager.

    Files of certificates and secrets are read when it is made, so that renewed ones are used by the next.

    Parameters
    ----------
    peer : WebPeer

    Raises
    ------
    PeerNotTrusted
        Files of TLS cannot be used.
    WebNotAuthorised
        The file of the passcode cannot be used.
    """

    def __init__(self, peer: WebPeer) -> None:
        self.peer = peer
        self._sockets: list[socket.socket] = []
        self._is_ended = False
        verify = _verification(peer)
        timeout = httpx.Timeout(peer.response_timeout_seconds, connect=peer.connect_timeout_seconds)
        # No proxies or credentials from the environment: the node goes where its configuration says.
        self._tokens = httpx.Client(verify=verify, timeout=timeout, trust_env=False)
        self._client = httpx.Client(verify=verify, timeout=timeout, trust_env=False, auth=self._identity())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection."""
        self._client.close()
        self._tokens.close()

    def cut(self) -> None:
        """End every connection at once, from another thread: whoever waits on one gets NoResponse."""
        for connection in list(self._sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # ended already

    def end(self) -> None:
        """As :meth:`cut`, and whatever would be sent afterwards is not: NoResponse or PeerUnreachable."""
        # Set before looking at the connections: one that is being opened sees it when it is noted.
        self._is_ended = True
        self.cut()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request and return the whole response, whatever its status.

        Parameters
        ----------
        path : str
            Below the service's url, with its leading slash.

        Raises
        ------
        PeerUnreachable
            No connection; nothing was sent.
        NoResponse
            The connection was lost, or no answer came in time: the request may have been carried out.
        """
        with _translated(self.peer):
            return self._client.request(method, self.peer.url + path, extensions=self._watched(), **options)

    @contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """As :meth:`request`, with the body still to be read."""
        url, watched = self.peer.url + path, self._watched()
        with _translated(self.peer), self._client.stream(method, url, extensions=watched, **options) as response:
            yield response

    def _watched(self) -> dict[str, Any]:
        """Extensions of a request that keep its connection for :meth:`cut`."""

        def note(event: str, facts: dict[str, Any]) -> None:
            if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
                self._sockets.append(facts["return_value"].get_extra_info("socket"))
                if self._is_ended:
                    self.cut()

        return {"trace": note}

    def _identity(self) -> httpx.Auth | None:
        if self.peer.oauth is not None:
            return ClientCredentials(self.peer.oauth, self._tokens.post)
        if self.peer.username and self.peer.passcode_file is not None:
            try:
                return httpx.BasicAuth(self.peer.username, read_passcode(self.peer.passcode_file))
            except UsersUnusable as error:
                raise WebNotAuthorised(error.message) from error
        return None


def refusal(peer: WebPeer, response: httpx.Response, what: str) -> PeerError:
    """The error that a status of 300 or more means.

    Returns
    -------
    PeerError
        :class:`WebNotAuthorised` (401, 403, 407), :class:`PeerBusy` (passing: 429, 5xx …) with ``retry_after`` in its
        detail where the service names a time, or :class:`PeerRejectedObject`.
    """
    code = response.status_code
    words = f"{peer}: {what}: HTTP {code} {response.reason_phrase}".rstrip()
    if code in (401, 403, 407):
        return WebNotAuthorised(words, http_status=code)
    if code in _PASSING:
        return PeerBusy(words, http_status=code, **_retry_after(response.headers))
    return PeerRejectedObject(words, http_status=code)


def _retry_after(headers: Mapping[str, str]) -> dict[str, float]:
    """RFC 9110 10.2.3, seconds only."""
    value = headers.get("Retry-After", "")
    return {"retry_after": float(value)} if value.isascii() and value.isdigit() and len(value) < 6 else {}


@contextmanager
def _translated(peer: WebPeer) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        cause = _tls_reason(error)
        if cause:
            raise PeerNotTrusted(f"{peer}: no TLS connection ({cause})") from error
        raise PeerUnreachable(f"{peer}: no connection (refused, no route, or none within the time limit)") from error
    except httpx.TransportError as error:
        raise NoResponse(f"{peer}: the connection was lost ({type(error).__name__})") from error
    except (httpx.InvalidURL, httpx.DecodingError, httpx.TooManyRedirects) as error:
        raise PeerRejectedObject(f"{peer}: {str(error)[:_LONGEST_WORDS]}") from error


def _tls_reason(error: BaseException) -> str:
    """The failure of TLS behind an error, in a few words; empty where there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return (cause.reason or "TLS error").replace("_", " ").lower()
        cause = cause.__cause__ or cause.__context__
    return ""


def _verification(peer: WebPeer) -> ssl.SSLContext | bool:
    try:
        # Without a table of its own the authorities of the operating system count, by the same profile.
        return client_context(peer.tls or ClientTlsSection(), "tls")
    except TlsUnusable as error:
        raise PeerNotTrusted(f"{peer}: {error.message}") from error
