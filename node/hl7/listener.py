"""The listener for HL7 v2 over MLLP: a process of its own, a thread for each connection."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from node import log
from node.archive import ledger
from node.archive.engine import Store, open_store
from node.dicom.security_log import SecurityLog
from node.dicom.tls import RotatingContext
from node.dicom.tls_gate import TlsGate, TlsRefusal
from node.errors import ConfigError, Hl7Rejected, TlsUnusable
from node.hl7.acknowledgement import Code, acknowledgement
from node.hl7.framing import BlockReader, framed
from node.hl7.inbox import Inbox
from node.liveness import Liveness
from node.settings import Hl7InboundSection, Settings
from node.status import run_folder

logger = logging.getLogger(__name__)

_LOG = log.logger("hl7")
_POLL_SECONDS = 0.5
_CHUNK = 65536
_TURN_SECONDS = 5.0
_LINGER_SECONDS = 2.0
_LOOPBACK = ("127.0.0.0/8", "::1/128")


def run_hl7(settings: Settings, stopping: threading.Event, liveness: Liveness | None = None) -> None:
    """Run until ``stopping`` is set."""
    liveness = liveness or Liveness()
    store = open_store(settings)
    try:
        inbox = Inbox(settings.hl7, store, run_folder(settings.data_dir))
        listener = Listener(settings.hl7, inbox.take, tls_gate(settings.hl7, store))
        host, port = listener.start()
        log.say(_LOG, 20, "listening for HL7", host=host, port=port, tls=settings.hl7.tls.enabled)
        liveness.ready(f"listening for HL7 on {host}:{port}")
        while not stopping.wait(_POLL_SECONDS):
            if listener.accepting():
                liveness.beat()
        liveness.stopping()
        listener.stop()
    finally:
        store.close()


def tls_gate(section: Hl7InboundSection, store: Store) -> TlsGate | None:
    """What connections pass through first where TLS is on; refusals and renewed files stand in the ledger."""
    if not section.tls.enabled:
        return None
    events = SecurityLog(store)

    def refused(reason: TlsRefusal, address: str) -> None:
        events.refused(ledger.Kind.TLS_REFUSED, reason=reason.value, address=address, service="HL7")

    def renewed(error: TlsUnusable | None) -> None:
        if error is None:
            events.note(ledger.Kind.TLS_RENEWED, service="HL7")
        else:
            events.note(ledger.Kind.TLS_UNUSABLE, message=error.message, service="HL7")

    context = RotatingContext.of_listener(section.tls, renewed, where="hl7.tls")
    context.current()
    return TlsGate(context, seconds=section.tls.handshake_seconds, refused=refused)


class Listener:
    """Accepts connections of those invited.

    Parameters
    ----------
    section : Hl7InboundSection
    take : callable
        Carries a message out and gives the acknowledgement, None for none.
    gate : TlsGate or None
        What a connection passes through first; None without TLS.
    """

    def __init__(
        self, section: Hl7InboundSection, take: Callable[[bytes], bytes | None], gate: TlsGate | None = None
    ) -> None:
        self._section = section
        self._take = take
        self._gate = gate
        self._networks = [ip_network(each, strict=False) for each in section.allow or _LOOPBACK]
        self._slots = threading.BoundedSemaphore(section.maximum_connections)
        self._stopping = threading.Event()
        self._socket: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._turned_at = time.monotonic()

    def start(self, port: int | None = None) -> tuple[str, int]:
        """Bind and listen; return the address.

        Raises
        ------
        ConfigError
            The address is in use or not ours.
        """
        section = self._section
        family = socket.AF_INET6 if ":" in section.host else socket.AF_INET
        address = (section.host, section.port if port is None else port)
        try:
            self._socket = socket.create_server(address, family=family, backlog=section.maximum_connections)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigError(f"hl7.host, hl7.port: cannot listen on {address[0]}:{address[1]} ({reason})") from error
        self._socket.settimeout(_POLL_SECONDS)
        accepting = threading.Thread(target=self._accept, name="hl7-accept", daemon=True)
        accepting.start()
        self._threads.append(accepting)
        host, bound = self._socket.getsockname()[:2]
        return str(host), int(bound)

    def accepting(self) -> bool:
        """Whether the loop that accepts has turned within the last seconds."""
        return time.monotonic() - self._turned_at < _TURN_SECONDS

    def stop(self, seconds: float = 5.0) -> None:
        """Take no more connections, and let messages that are being carried out end."""
        self._stopping.set()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if self._socket is not None:
            self._socket.close()

    def _accept(self) -> None:
        assert self._socket is not None  # started
        while not self._stopping.is_set():
            self._turned_at = time.monotonic()
            try:
                connection, address = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                logger.error("connections cannot be accepted: %s", error.strerror)
                self._stopping.wait(_POLL_SECONDS)
                continue
            if not self._invited(address[0]):
                logger.warning("a connection from %s was refused: it is not on hl7.allow", address[0])
                connection.close()
            # An engine that reconnects at once may come before its old connection is known to have ended.
            elif not self._slots.acquire(timeout=_POLL_SECONDS):
                logger.warning("a connection from %s was refused: there are hl7.maximum_connections", address[0])
                connection.close()
            else:
                thread = threading.Thread(target=self._serve, args=(connection, address[0]), name="hl7", daemon=True)
                self._threads = [each for each in self._threads if each.is_alive()]
                self._threads.append(thread)
                thread.start()

    def _invited(self, address: str) -> bool:
        peer = ip_address(address.partition("%")[0])
        mapped = getattr(peer, "ipv4_mapped", None)
        return any((mapped or peer) in network for network in self._networks)

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            admitted = self._gate.admit(connection, address) if self._gate else connection
            if admitted is None:
                return
            with admitted:
                admitted.settimeout(_POLL_SECONDS)
                self._converse(admitted)
        except OSError as error:
            logger.info("a connection was lost: %s", error.strerror or type(error).__name__)
        finally:
            self._slots.release()

    def _converse(self, connection: socket.socket) -> None:
        """Messages one after the other, each acknowledged before the next is looked at."""
        reader = BlockReader(self._section.maximum_message_bytes)
        begun = heard = time.monotonic()
        while not self._stopping.is_set():
            now = time.monotonic()
            if now - heard > self._section.idle_seconds:
                return
            if reader.begun and now - begun > self._section.message_seconds:
                logger.warning("a message did not end within hl7.message_seconds")
                return
            try:
                data = connection.recv(_CHUNK)
            except TimeoutError:
                continue
            if not data:
                return
            heard = time.monotonic()
            begun = begun if reader.begun else heard
            try:
                messages = reader.feed(data)
            except Hl7Rejected as error:
                logger.warning("a connection was closed: %s", error)
                answer = acknowledgement(None, Code.REJECTED, condition="207", words=error.message)
                connection.sendall(framed(answer or b""))
                _let_read(connection)
                return
            for message in messages:
                answer = self._take(message)
                if answer is not None:
                    connection.sendall(framed(answer))
                begun = time.monotonic()


def _let_read(connection: socket.socket) -> None:
    """Take the rest of what is being sent: closing over unread bytes resets the connection, answer and all (RFC 2525 2.17)."""
    connection.shutdown(socket.SHUT_WR)
    until = time.monotonic() + _LINGER_SECONDS
    while time.monotonic() < until:
        try:
            if not connection.recv(_CHUNK):
                return
        except TimeoutError:
            return
