"""The one way this node opens associations: store, commitment, query, echo and everything that follows.

Every service class user goes through :class:`ClientAssociation`, so that each has the parked reactor, prompt
connections, hard time limits and errors of one tree. Nothing else calls ``AE.associate``.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicom_sr.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dicom.connection import PeerSocket, adopt, hard_close, parked, prepare_library
from node.dicom.sending_lane import ConnectionLost, Outgoing, SendingLane
from node.dicom.store_command import StoreResponse
from node.dicom.tls import client_context
from node.dicom.tls_client import Dialer, SecurePeerSocket
from node.dicom.user_identity import identity_item
from node.errors import (
    NoPresentationContext,
    NoResponse,
    PeerError,
    PeerNotTrusted,
    PeerUnreachable,
    TlsUnusable,
    UsageError,
)
from node.settings import DestinationSection, DestinationTlsSection

logger = logging.getLogger(__name__)

# PS3.8 9.3.2.2: context ids are the odd numbers from 1 to 255, so a requestor can propose 128.
MAXIMUM_CONTEXTS = 128
MAXIMUM_PDU_BYTES = 131072
PLAIN_TRANSFER_SYNTAXES = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))

_RELEASE_SECONDS = 5.0
# A time limit of ours fires this much after pynetdicom's own, which is the gentler one.
_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another application entity and how long it may take.

    Attributes
    ----------
    ae_title, calling_ae_title : str
        The called title, and the title this node calls itself towards it.
    host : str
        Name or numeric address.
    connect_timeout_seconds : float
        For the transport connection.
    response_timeout_seconds : float
        For the answer to an association request and to each message after it has been sent.
    tls : DestinationTlsSection or None
        None: no TLS.
    username : str
        User identity to negotiate (PS3.7 D.3.3.7), empty for none.
    passcode_file : Path or None
        Holds the passcode beside it.
    """

    ae_title: str
    host: str
    port: int
    calling_ae_title: str
    connect_timeout_seconds: float = 10.0
    response_timeout_seconds: float = 60.0
    tls: DestinationTlsSection | None = None
    username: str = ""
    passcode_file: Path | None = None

    @classmethod
    def of(cls, destination: DestinationSection, own_ae_title: str) -> Peer:
        """The peer that a ``[destination.NAME]`` section describes."""
        return cls(
            ae_title=destination.ae_title,
            host=destination.host,
            port=destination.port,
            calling_ae_title=destination.calling_ae_title or own_ae_title,
            connect_timeout_seconds=destination.connect_timeout_seconds,
            response_timeout_seconds=destination.response_timeout_seconds,
            tls=destination.tls,
            username=destination.username,
            passcode_file=destination.passcode_file,
        )

    def __str__(self) -> str:
        return f"{self.ae_title} at {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """One presentation context to propose.

    Attributes
    ----------
    abstract_syntax : str
        SOP Class UID.
    transfer_syntaxes : tuple of str
        Usually one, so that the peer says yes or no to each.
    as_provider : bool
        Propose the SCP role for ourselves (PS3.7 D.3.3.4): a commitment answer on an association that the
        provider opens, for example.
    """

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...] = PLAIN_TRANSFER_SYNTAXES
    as_provider: bool = False


class ClientAssociation:
    """An association this node opens; a context manager that releases, or aborts after an error.

    Parameters
    ----------
    peer : Peer
    proposals : sequence of Proposal
        At most 128.
    handlers : sequence of (event, callable)
        pynetdicom events to serve meanwhile, such as ``evt.EVT_N_EVENT_REPORT``.

    Raises
    ------
    PeerNotTrusted
        No TLS with this peer: its certificate, ours, or none at all.
    PeerUnreachable
        No connection, no answer, or the association was rejected; the message gives the peer's own reason.
    NoPresentationContext
        The peer accepted none of the proposed contexts.
    """

    def __init__(
        self,
        peer: Peer,
        proposals: Sequence[Proposal],
        *,
        handlers: Sequence[tuple[Any, Callable[..., Any]]] = (),
    ) -> None:
        if not 1 <= len(proposals) <= MAXIMUM_CONTEXTS:
            raise UsageError(
                f"an association carries 1 to {MAXIMUM_CONTEXTS} presentation contexts, not {len(proposals)}"
            )
        self.peer = peer
        self.negotiation_seconds = 0.0
        self._proposals = tuple(proposals)
        self._handlers = list(handlers)
        self._stack = ExitStack()
        self._association: Association | None = None
        self._connected = False
        self._dialer: Dialer | None = None
        self._lane: SendingLane | None = None

    def __enter__(self) -> Self:
        prepare_library()
        started = time.monotonic()
        association = self._open()
        self.negotiation_seconds = time.monotonic() - started
        if not association.is_established:
            raise self._refused(association)
        self._association = association
        self._stack.enter_context(parked(association))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        association = self._established
        with self._stack, self._limit(association, _RELEASE_SECONDS + _GRACE_SECONDS):
            if association.is_established and kind is None:
                association.acse_timeout = _RELEASE_SECONDS
                association.release()
            elif association.is_established:
                association.abort()

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent."""
        return self._association is not None and self._association.is_established

    @property
    def accepted(self) -> tuple[tuple[str, str], ...]:
        """(abstract syntax, transfer syntax) of every accepted context, in the order proposed."""
        return tuple(
            (str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in self._established.accepted_contexts
        )

    def context_id(self, abstract_syntax: str, transfer_syntax: str) -> int | None:
        """Number of the accepted context for exactly this pair."""
        for context in self._established.accepted_contexts:
            if context.abstract_syntax == abstract_syntax and context.transfer_syntax[0] == transfer_syntax:
                return context.context_id
        return None

    def accepts(self, abstract_syntax: str, transfer_syntax: str | None = None) -> bool:
        """Whether a context for this SOP class (and exactly this transfer syntax) was accepted."""
        return any(
            abstract == abstract_syntax and transfer_syntax in (None, transfer) for abstract, transfer in self.accepted
        )

    @contextmanager
    def exchange(self, *, additional_seconds: float = 0.0) -> Iterator[Association]:
        """Yield the pynetdicom association for one request and its response.

        Parameters
        ----------
        additional_seconds : float
            Time allowed on top of the response time limit, for large requests.

        Raises
        ------
        NoResponse
            The association is not open any more when the request begins, or pynetdicom reports it lost.
        """
        association = self._established
        if not association.is_established:
            raise NoResponse(f"{self.peer}: the association ended before the request was sent")
        limit = self.peer.response_timeout_seconds + additional_seconds
        association.dimse_timeout = limit
        with self._limit(association, limit + _GRACE_SECONDS):
            try:
                yield association
            except RuntimeError as error:
                raise NoResponse(f"{self.peer}: the association ended during the request") from error

    def store(
        self, outgoing: Outgoing, *, context_id: int, message_id: int, additional_seconds: float = 0.0
    ) -> StoreResponse:
        """Send one object by the sending lane and return the response.

        Raises
        ------
        NoResponse
            None came: the object may or may not be stored, and the association is of no use any more.
        """
        association = self._established
        if not association.is_established or self._lane is None:
            raise NoResponse(f"{self.peer}: the association ended before the request was sent")
        seconds = self.peer.response_timeout_seconds + additional_seconds
        try:
            return self._lane.store(outgoing, context_id=context_id, message_id=message_id, seconds=seconds)
        except ConnectionLost as error:
            raise NoResponse(f"{self.peer}: no response to C-STORE ({error})") from error

    def cut(self) -> None:
        """Close the connection at once, from any thread, whatever is under way."""
        if self._association is not None:
            hard_close(self._association)

    def status_of(self, response: Dataset, what: str) -> int:
        """DIMSE status of a response data set.

        Raises
        ------
        NoResponse
            It is empty: the peer did not answer in time, aborted or closed.
        """
        if "Status" not in response:
            raise NoResponse(f"{self.peer}: no response to {what}")
        return int(response.Status)

    @property
    def _established(self) -> Association:
        if self._association is None:
            raise NoResponse(f"{self.peer}: the association is not open")
        return self._association

    def _open(self) -> Association:
        entity = AE(ae_title=self.peer.calling_ae_title)
        entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.connection_timeout = self.peer.connect_timeout_seconds
        entity.acse_timeout = self.peer.response_timeout_seconds
        entity.dimse_timeout = self.peer.response_timeout_seconds
        # Silence on an idle association is ours to end; each exchange has its own limit.
        entity.network_timeout = None
        self._dialer = self._new_dialer()
        try:
            return entity.associate(
                self.peer.host,
                self.peer.port,
                contexts=_contexts(self._proposals),
                ae_title=self.peer.ae_title,
                max_pdu=MAXIMUM_PDU_BYTES,
                ext_neg=self._negotiation_items(),
                # A stand-in for the context: it does what is asked of one, and remembers failures.
                tls_args=(cast(Any, self._dialer), self._server_name) if self._dialer else None,
                evt_handlers=[(evt.EVT_CONN_OPEN, self._on_connected), *self._handlers],
            )
        except socket.gaierror as error:
            raise PeerUnreachable(f"{self.peer}: the host name cannot be resolved ({error.strerror})") from error

    def _new_dialer(self) -> Dialer | None:
        """Read the files of TLS anew for each association, so that renewed ones are used.

        Raises
        ------
        PeerNotTrusted
            They cannot be used.
        """
        if self.peer.tls is None:
            return None
        try:
            return Dialer(client_context(self.peer.tls, "tls"))
        except TlsUnusable as error:
            raise PeerNotTrusted(f"{self.peer}: {error.message}") from error

    @property
    def _server_name(self) -> str:
        return (self.peer.tls.server_name if self.peer.tls else "") or self.peer.host

    def _negotiation_items(self) -> list[Any]:
        items: list[Any] = [
            build_role(UID(proposal.abstract_syntax), scu_role=False, scp_role=True)
            for proposal in self._proposals
            if proposal.as_provider
        ]
        if self.peer.username:
            items.append(identity_item(self.peer.username, self.peer.passcode_file))
        return items

    def _on_connected(self, event: evt.Event) -> None:
        self._connected = True
        adopt(
            event.assoc,
            maximum_pdu_bytes=MAXIMUM_PDU_BYTES,
            timeout_seconds=self.peer.response_timeout_seconds,
            kind=SecurePeerSocket if self._dialer else PeerSocket,
        )
        self._lane = SendingLane(event.assoc)

    def _refused(self, association: Association) -> PeerError:
        """Why no association came about, in the peer's or the network's words."""
        answer = association.acceptor.primitive
        if association.is_rejected and answer is not None:
            return PeerUnreachable(
                f"{self.peer}: rejected the association ({answer.result_str.lower()}, {answer.reason_str.lower()})",
                result=answer.result,
                source=answer.result_source,
                diagnostic=answer.diagnostic,
            )
        if answer is not None and answer.result == 0x00:
            names = sorted({UID(proposal.abstract_syntax).name for proposal in self._proposals})
            return NoPresentationContext(f"{self.peer}: accepts none of {', '.join(names)}")
        if self._dialer is not None and self._dialer.reason:
            return PeerNotTrusted(f"{self.peer}: no TLS connection ({self._dialer.reason})")
        if not self._connected:
            return PeerUnreachable(f"{self.peer}: no connection (refused, no route, or none within the time limit)")
        return PeerUnreachable(f"{self.peer}: connected, but the association request was aborted or not answered")

    @contextmanager
    def _limit(self, association: Association, seconds: float) -> Iterator[None]:
        """Cut the connection after ``seconds``: pynetdicom's waits then end, whatever the peer does."""
        timer = threading.Timer(seconds, hard_close, [association])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _contexts(proposals: Sequence[Proposal]) -> list[PresentationContext]:
    return [build_context(UID(p.abstract_syntax), [UID(uid) for uid in p.transfer_syntaxes]) for p in proposals]
