"""Events of a manager of workitems by UPS-RS: a subscription and a WebSocket (PS3.18 11.9 and 8.10.4)."""

from __future__ import annotations

import json
import ssl
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from node.dicom.tls import client_context
from node.dicomweb.web_client import WebClient, WebPeer, refusal
from node.errors import NoResponse, PeerNotTrusted, PeerRejectedObject, PeerUnreachable, WebAnswerUnusable
from node.settings import ClientTlsSection
from node.workitem_manager import EVERY_WORKITEM, WorkitemEvent

_LONGEST_EVENT_BYTES = 1 << 20
_AFFECTED_INSTANCE, _EVENT_TYPE = "00001000", "00001002"


class WorkitemSocket:
    """A subscription to every workitem and the connection its events come on; a context manager.

    Parameters
    ----------
    peer : WebPeer
    ae_title : str
        Names the subscriber.
    """

    def __init__(self, peer: WebPeer, ae_title: str) -> None:
        self._peer = peer
        self._ae_title = ae_title
        self._connection: ClientConnection | None = None

    def __enter__(self) -> Self:
        """Subscribe and connect.

        Raises
        ------
        PeerError
            The manager is away, not trusted, or has no subscriptions.
        """
        subscriber = f"subscribers/{quote(self._ae_title, safe='')}"
        with WebClient(self._peer) as client:
            path = f"/workitems/{EVERY_WORKITEM}/{subscriber}"
            response = client.request("POST", path, params={"deletionlock": "false"})
        if not response.is_success:
            raise refusal(self._peer, response, "no subscription to workitems")
        address = _socket_address(self._peer, response.headers.get("Content-Location", ""), subscriber)
        # The credentials that were good for the subscription.
        identity = response.request.headers.get("Authorization")
        self._connection = self._connect(address, {"Authorization": identity} if identity else {})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def next(self, timeout_seconds: float) -> WorkitemEvent | None:
        """The next event, None where none came in time.

        Raises
        ------
        NoResponse
            The connection ended.
        WebAnswerUnusable
            What came is no event.
        """
        assert self._connection is not None  # entered
        try:
            return _event(self._connection.recv(timeout=timeout_seconds))
        except TimeoutError:
            return None
        except ConnectionClosed as error:
            raise NoResponse(f"{self._peer}: the connection for events ended") from error

    def _connect(self, address: str, headers: dict[str, str]) -> ClientConnection:
        tls = self._peer.tls or ClientTlsSection()
        secure = address.startswith("wss://")
        try:
            return connect(
                address,
                ssl=client_context(tls, "tls") if secure else None,
                server_hostname=(tls.server_name or None) if secure else None,
                additional_headers=headers,
                # The node goes where its configuration says.
                proxy=None,
                open_timeout=self._peer.connect_timeout_seconds,
                max_size=_LONGEST_EVENT_BYTES,
            )
        except ssl.SSLError as error:
            raise PeerNotTrusted(f"{self._peer}: no TLS connection for events ({error.reason})") from error
        except (OSError, TimeoutError) as error:
            raise PeerUnreachable(f"{self._peer}: no connection for events") from error
        except (InvalidHandshake, InvalidURI) as error:
            raise PeerRejectedObject(f"{self._peer}: refuses a connection for events") from error


def _socket_address(peer: WebPeer, told: str, subscriber: str) -> str:
    """Where events are fetched: what the manager said if that is at the same address, else below the service's url."""
    base = urlsplit(peer.url)
    scheme = "wss" if base.scheme == "https" else "ws"
    named = urlsplit(told)
    if named.scheme == scheme and named.netloc == base.netloc:
        return told
    return f"{scheme}://{base.netloc}{base.path}/{subscriber}"


def _event(message: str | bytes) -> WorkitemEvent:
    try:
        content = json.loads(message)
        return WorkitemEvent(str(_first(content, _AFFECTED_INSTANCE)), int(_first(content, _EVENT_TYPE)))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise WebAnswerUnusable("an event of a workitem is not DICOM JSON (PS3.18 annex F)") from error


def _first(content: Any, tag: str) -> Any:
    return content[tag]["Value"][0]
