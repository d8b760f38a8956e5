"""The listening side of pynetdicom: an inherited or own socket, one thread that sees an association to its end."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from socketserver import TCPServer
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from node.dicom.connection import adopt, hard_close, plain_address
from node.dicom.tls_gate import TlsGate

logger = logging.getLogger(__name__)

BACKLOG = 512
# Connections that have not yet asked for an association, on top of the associations allowed.
_UNDECIDED_CONNECTIONS = 64
# Connections from addresses on no list: enough to be told so, too few to crowd out those that are.
_STRANGERS = 8
_WARNING_SECONDS = 60.0
_POLL_SECONDS = 0.1
_END_SECONDS = 5.0
_DECISION_SECONDS = 1.0


class ListeningServer(ThreadedAssociationServer):
    """An association server that can share a listening socket with other processes.

    Parameters
    ----------
    entity : AE
        Its ``network_timeout`` bounds silence, its ``acse_timeout`` the wait for an association request.
    address : tuple
        Where to listen when no socket is given.
    contexts : sequence of PresentationContext
        Supported beside storage, which is unrestricted.
    handlers : sequence of (event, callable)
    listening_socket : socket or None
        Bound and listening already; it is duplicated, never shut down, since other processes accept on it.
    knows : callable or None
        Whether a numeric address is on a list at all; None: every one is.
    gate : TlsGate or None
        Shakes hands before anything else is read; None: no TLS.
    limit_seconds : float or None
        Longest time that an association may stand, whatever it does; None: for ever.
    prepare, finished : callable or None
        Called with each association before it starts, and after it and its connection have ended.
    """

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(
        self,
        entity: AE,
        address: tuple[str, int],
        *,
        contexts: Sequence[PresentationContext],
        handlers: Sequence[tuple[Any, Callable[..., Any]]],
        listening_socket: socket.socket | None = None,
        knows: Callable[[str], bool] | None = None,
        gate: TlsGate | None = None,
        limit_seconds: float | None = None,
        prepare: Callable[[Association], None] | None = None,
        finished: Callable[[Association], None] | None = None,
    ) -> None:
        self._inherited = listening_socket.dup() if listening_socket is not None else None
        self.prepare = prepare
        self.finished = finished
        self.gate = gate
        self.limit_seconds = limit_seconds
        self._knows = knows
        self._limit = entity.maximum_associations + _UNDECIDED_CONNECTIONS
        # pynetdicom counts every connection as an association; its own limit must not come first.
        entity.maximum_associations = self._limit + _STRANGERS
        self._warned_at: dict[str, float] = {}
        # Open connections, of known addresses and of strangers.
        self._connections = {True: 0, False: 0}
        self._open = 0
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self.turned_at = time.monotonic()
        super().__init__(
            entity, address, entity.ae_title, list(contexts), evt_handlers=list(handlers), request_handler=_Handler
        )

    def serve_in_background(self) -> tuple[str, int]:
        """Start accepting; return the host and port that were bound."""
        self._thread = threading.Thread(target=self.serve_forever, args=(_POLL_SECONDS,), name="listener", daemon=True)
        self._thread.start()
        host, port = self.server_address[:2]
        return str(host), int(port)

    def service_actions(self) -> None:
        """Note that the loop that accepts has turned; see ``turned_at``, monotonic seconds."""
        self.turned_at = time.monotonic()
        super().service_actions()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count the connection before its thread begins, so that a stop cannot overlook it."""
        with self._guard:
            self._open += 1
        super().process_request(request, client_address)

    def connection_ended(self) -> None:
        """Count a connection out."""
        with self._guard:
            self._open -= 1

    def server_bind(self) -> None:
        """Bind, or take over the inherited socket."""
        if self._inherited is None:
            super().server_bind()
            # pynetdicom leaves a time limit here that an accepted connection has no use for.
            self._listener.settimeout(None)
        else:
            self._listener.close()
            self.socket = self._inherited
            self.server_address = self._inherited.getsockname()
        # Several processes are woken by one connection and one of them gets it: the others must not wait in accept.
        self._listener.setblocking(False)

    def server_activate(self) -> None:
        """Listen, unless whoever bound the socket has done so."""
        if self._inherited is None:
            super().server_activate()

    def server_close(self) -> None:
        """Close our descriptor; a shared listening socket stays open for the others."""
        self._listener.close()

    def shutdown(self) -> None:
        """Stop accepting and close the descriptor. Associations go on."""
        TCPServer.shutdown(self)
        self.server_close()

    def stop(self, grace_seconds: float) -> None:
        """Stop accepting, give associations ``grace_seconds`` to end, then abort them."""
        self.shutdown()
        self.finish(grace_seconds)

    def finish(self, grace_seconds: float) -> None:
        """Give associations ``grace_seconds`` to end, then abort them.

        A connection that was accepted a moment before has yet to ask for its association: it is waited for, too, but not as long.
        """
        self._await(self._undecided, min(grace_seconds, _DECISION_SECONDS))
        self._await(self._established, grace_seconds)
        for association in self._established():
            association.abort(block=False)
        self._await(self._established, _END_SECONDS)
        for association in self.active_associations:
            hard_close(association)

    @contextmanager
    def admission(self, address: str) -> Iterator[bool]:
        """Count a connection in for the length of the block; yield False where too many are open."""
        known = self._knows is None or self._knows(plain_address(address))
        limit = self._limit if known else _STRANGERS
        with self._guard:
            admitted = self._connections[known] < limit
            self._connections[known] += admitted
        try:
            yield admitted
        finally:
            with self._guard:
                self._connections[known] -= admitted

    def turn_away(self, connection: socket.socket, address: str) -> None:
        """Close a connection that is one too many."""
        self.warn(address, "too many are open")
        self.shutdown_request(connection)

    def warn(self, address: str, reason: str) -> None:
        """Log why a connection was closed; once a minute for each reason, whatever comes."""
        now = time.monotonic()
        with self._guard:
            due = now - self._warned_at.get(reason, -_WARNING_SECONDS) >= _WARNING_SECONDS
            if due:
                self._warned_at[reason] = now
        if due:
            logger.warning("connection from %s closed: %s", plain_address(address), reason)

    @property
    def _listener(self) -> socket.socket:
        assert self.socket is not None
        return self.socket

    def _established(self) -> list[Association]:
        return [association for association in self.active_associations if association.is_established]

    def _undecided(self) -> bool:
        """Whether a connection is open that has not become an association."""
        with self._guard:
            return self._open > len(self._established())

    def _await(self, remaining: Callable[[], object], seconds: float) -> None:
        pause = threading.Event()
        until = time.monotonic() + seconds
        while remaining() and time.monotonic() < until:
            pause.wait(0.02)


class _Handler(RequestHandler):
    """Runs in a thread of its own for each connection and stays until everything of it has ended."""

    server: ListeningServer

    def handle(self) -> None:
        with self.server.admission(self.client_address[0]) as admitted:
            if admitted:
                self._serve()
                return
        self.server.turn_away(self.request, self.client_address[0])

    def finish(self) -> None:
        """What the standard library calls last, whatever happened before."""
        super().finish()
        self.server.connection_ended()

    def _speaks(self) -> bool:
        """Wait for the first byte. Health checks and port scans connect and close: they get no association."""
        self.request.settimeout(self.server.ae.acse_timeout)
        try:
            return bool(self.request.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _serve(self) -> None:
        if not self._speaks():
            self.server.shutdown_request(self.request)
            return
        if self.server.gate is not None:
            secured = self.server.gate.admit(self.request, self.client_address[0])
            if secured is None:
                return
            self.request = secured
        association = self._create_association()
        entity = association.ae
        adopt(
            association,
            maximum_pdu_bytes=entity.maximum_pdu_size,
            timeout_seconds=entity.network_timeout or entity.acse_timeout or _END_SECONDS,
        )
        if self.server.prepare is not None:
            self.server.prepare(association)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        association.start()
        association.join(self.server.limit_seconds)
        if association.is_alive():
            self.server.warn(self.client_address[0], f"its association has stood for {self.server.limit_seconds:g} s")
            hard_close(association)
            association.join()
        # The reactor may have died on a malformed request: leave no thread and no connection behind.
        hard_close(association)
        if association.requestor.primitive is None:
            self.server.warn(self.client_address[0], "it never asked for an association")
        association.dul.kill_dul()
        association.dul.join(_END_SECONDS)
        if self.server.finished is not None:
            self.server.finished(association)
