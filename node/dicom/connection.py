"""What this product adds to pynetdicom's connections, and the contract it relies on.

Three facts, each measured against real peers, are behind this file:

* pynetdicom leaves Nagle's algorithm on, and many peers write a response in two pieces. Either costs 40 ms an
  object. ``TCP_NODELAY`` cures our half; re-arming ``TCP_QUICKACK`` before each read cures the peer's.
* An idle association reactor may take the response that a ``send_*`` call waits for, under load. It is parked
  for as long as we use an association (:func:`parked`).
* A peer chooses the length of a PDU. :class:`PeerSocket` refuses what was never negotiated.

Underscored names of pynetdicom are used here only; :func:`prepare_library` checks that they are what we think.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, cast

from pynetdicom import AE, _config
from pynetdicom import timer as library_timer
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.transport import AssociationSocket, RequestHandler

from node.errors import NameConflict

# PS3.8 9.3.1: an A-ASSOCIATE PDU is not bound by the negotiated length. 128 contexts with many transfer syntaxes
# and a user identity stay far below this.
MAXIMUM_NEGOTIATION_BYTES = 1 << 20
# Command fragment headers and a peer's loose reading of "maximum length" (with or without its own six bytes).
_PDU_SLACK_BYTES = 4096

_PDU_TYPES = range(0x01, 0x08)

_PARK_SECONDS = 10.0


def prepare_library() -> None:
    """Switch pynetdicom to what this product needs. Idempotent; called by whoever opens or accepts associations.

    Data sets are sent from file without decoding, any storage SOP class is accepted (private and unknown ones
    too), and nothing of a data set is ever logged.

    Raises
    ------
    NameConflict
        The installed pynetdicom lacks a hook this file uses.
    """
    if _config.UNRESTRICTED_STORAGE_SERVICE and _config.STORE_SEND_CHUNKED_DATASET:
        return
    association = Association(AE(), "requestor")
    missing = [
        name
        for owner, name in (
            (association, "_reactor_checkpoint"),
            (association, "_is_paused"),
            (association, "_accepted_cx"),
            (association.dul, "socket"),
            (association.dul, "_is_transport_event"),
            (association.dul, "_send"),
            (association.dul, "_decode_pdu"),
            (association.dul, "_recv_pdu"),
            (association.dimse, "message"),
            (association.dimse, "receive_primitive"),
            (C_STORE(), "_dataset_path"),
            (AssociationSocket, "recv"),
            (RequestHandler, "_create_association"),
            (library_timer, "time"),
        )
        if not hasattr(owner, name)
    ]
    if missing or not isinstance(association._reactor_checkpoint, threading.Event):
        raise NameConflict(f"pynetdicom is not the version this product was built for: {', '.join(missing)} missing")
    # The library measures its time limits with the wall clock: when that is set, every association would end, or none.
    setattr(library_timer, "time", _MonotonicClock)  # noqa: B010
    # Identifiers and statuses hold patients' names; the library would print them.
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.STORE_SEND_CHUNKED_DATASET = True
    _config.UNRESTRICTED_STORAGE_SERVICE = True


class _MonotonicClock:
    """Stands in for the module ``time`` where the library measures intervals."""

    time = staticmethod(time.monotonic)


class PeerSocket(AssociationSocket):
    """A connection that answers at once, believes no length it did not negotiate, and stops at what is no PDU.

    Attributes
    ----------
    maximum_bytes : int
        Longest PDU the peer may send.
    is_foreign : bool
        Something came that is no PDU (PS3.8 9.3.1). The peer is told once, by A-ABORT; nothing more is read, because
        every few bytes would be refused anew for as long as they come.
    """

    maximum_bytes: int = MAXIMUM_NEGOTIATION_BYTES
    is_foreign: bool = False
    _body_follows: bool = False
    _ahead: bytearray = bytearray()

    @property
    def ready(self) -> bool:
        """Whether data can be read."""
        return bool(self._ahead) or bool(super().ready)

    @property
    def has_read_ahead(self) -> bool:
        """Whether something was given back."""
        return bool(self._ahead)

    def unread(self, content: bytes | bytearray | memoryview) -> None:
        """Give back what was read from the connection beyond a PDU: it is read first."""
        self._ahead = bytearray(content) + self._ahead

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly ``nr_bytes``, fewer only where the peer closed.

        Raises
        ------
        OSError
            The peer announced a longer PDU than it may send; pynetdicom then closes the connection.
        TimeoutError
            No byte arrived within the socket's time limit, or not all of them within twice that: a peer that sends
            one byte at a time holds its place no longer than one that is silent.
        """
        if nr_bytes > self.maximum_bytes:
            raise OSError(f"PDU of {nr_bytes} bytes announced, {self.maximum_bytes} allowed")
        connection = self.socket
        if connection is None or self.is_foreign:
            return bytearray()
        buffer = self._exactly(connection, nr_bytes)
        # pynetdicom reads a header, then the body it announces, and no body where the type is unknown.
        self._body_follows = not self._body_follows
        if self._body_follows and buffer and buffer[0] not in _PDU_TYPES:
            self.is_foreign = True
        return buffer

    def _exactly(self, connection: socket.socket, nr_bytes: int) -> bytearray:
        self.acknowledge_at_once(connection)
        buffer = bytearray(nr_bytes)
        view = memoryview(buffer)
        received = min(nr_bytes, len(self._ahead))
        view[:received] = self._ahead[:received]
        self._ahead = self._ahead[received:]
        limit = connection.gettimeout()
        until = None if limit is None else time.monotonic() + limit
        while received < nr_bytes:
            count = connection.recv_into(view[received:])
            if not count:
                break
            received += count
            if until is not None and received < nr_bytes and time.monotonic() > until:
                raise TimeoutError(f"a PDU did not arrive within {limit:g} s")
        view.release()
        del buffer[received:]
        return buffer

    @staticmethod
    def acknowledge_at_once(connection: socket.socket) -> None:
        """Send pending TCP acknowledgements now. Linux disarms the option by itself, hence before every read."""
        if hasattr(socket, "TCP_QUICKACK"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def adopt(
    association: Association, *, maximum_pdu_bytes: int, timeout_seconds: float, kind: type[PeerSocket] = PeerSocket
) -> None:
    """Make an open connection prompt and bounded. Called once, when the transport connection stands.

    Parameters
    ----------
    association : Association
        Its socket must be connected.
    maximum_pdu_bytes : int
        What this side announces as maximum length received (PS3.8 D.1).
    timeout_seconds : float
        Longest silence in the middle of a PDU, and longest wait for the peer to take data.
    kind : type
        What the connection becomes.
    """
    wrapper = association.dul.socket
    if wrapper is None or wrapper.socket is None:
        return
    wrapper.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wrapper.socket.settimeout(timeout_seconds)
    # Exchanging the class keeps the state machine's events as pynetdicom queued them at construction.
    wrapper.__class__ = kind
    cast(PeerSocket, wrapper).maximum_bytes = max(MAXIMUM_NEGOTIATION_BYTES, maximum_pdu_bytes + _PDU_SLACK_BYTES)


def hard_close(association: Association, *, reset: bool = False) -> None:
    """Shut the transport connection down whatever state the association is in; never blocks.

    Parameters
    ----------
    reset : bool
        Have the system reset the connection once it is closed: whoever is still sending learns it at once, and what is on
        its way in either direction is lost.
    """
    wrapper = association.dul.socket
    connection = wrapper.socket if wrapper is not None else None
    if connection is None:
        return
    try:
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Of a TLS connection too: its own method would first take the encryption off, while another thread may send.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        # Already closed by the peer or by pynetdicom: that is what was wanted.
        return


class _ParkingEvent(threading.Event):
    """Stands in for the reactor's checkpoint: tells when the reactor waits, and ignores ``set`` while held."""

    def __init__(self) -> None:
        super().__init__()
        self.parked = threading.Event()
        self.held = True

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self.parked.set()
        result = super().wait(timeout)
        self.parked.clear()
        return result

    def set(self) -> None:
        if not self.held:
            super().set()


class _ParkedAssociation(Association):
    """What an association is while parked: paused, whoever says otherwise.

    pynetdicom serves an N-EVENT-REPORT in a thread of its own, which ends by declaring the reactor running; the
    next ``send_*`` or ``release`` would then wait for a pause that never comes.

    Attributes
    ----------
    serving : int
        Requests of the peer that are being answered.
    served : threading.Condition
        Guards it.
    """

    serving: int
    served: threading.Condition

    def _serve_request(self, msg: Any, context_id: int) -> None:
        with self.served:
            self.serving += 1
        try:
            super()._serve_request(msg, context_id)
        finally:
            with self.served:
                self.serving -= 1
                self.served.notify_all()

    @property
    def _is_paused(self) -> bool:
        return True

    @_is_paused.setter
    def _is_paused(self, value: bool) -> None:
        return


def finish_answers(association: Association, seconds: float) -> None:
    """Wait until what the peer asked over a parked association has been answered: a release would come before it.

    A peer whose N-EVENT-REPORT is not answered waits for it, and reports again.
    """
    if isinstance(association, _ParkedAssociation):
        with association.served:
            association.served.wait_for(lambda: not association.serving, seconds)


@contextmanager
def parked(association: Association) -> Iterator[None]:
    """Hold the association's reactor, so that only the caller takes messages off its queue.

    pynetdicom's own pause lets an idle reactor that has just passed the checkpoint take one more message: under
    load a response is lost and its sender waits until the time limit.
    """
    event = _ParkingEvent()
    association._reactor_checkpoint = event
    waited = 0.0
    while not event.parked.wait(0.02) and association.is_alive() and waited < _PARK_SECONDS:
        waited += 0.02
    held: Any = association
    held.serving, held.served = 0, threading.Condition()
    association.__class__ = _ParkedAssociation
    try:
        yield
    finally:
        association.__class__ = Association
        event.held = False
        event.set()


def plain_address(address: str) -> str:
    """The address without zone, IPv4-mapped IPv6 as IPv4, so that allow-lists compare what was meant."""
    parsed = ip_address(address.split("%", 1)[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)
