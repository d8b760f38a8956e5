"""The receiver: C-STORE and C-ECHO for modalities and PACS, storage commitment answers for our own results, and what
others tell about studies (node/dicom/evidence_scp.py).

Status 0x0000 is the promise that file and directory entry are on the disk and the instance is indexed. Whatever
goes wrong before that gives a failure status, never success; nothing heavier than this happens here.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from typing import cast

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from dicom_sr.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.archive import index
from node.archive.engine import Store, open_store
from node.archive.index import Ending
from node.archive.spool import Spool
from node.delivery import outbox
from node.dicom.access import REJECTION
from node.dicom.admission import Admission, Requestor
from node.dicom.association import PLAIN_TRANSFER_SYNTAXES
from node.dicom.commitment import INVALID_ARGUMENT, PROCESSING_FAILURE, read_answer
from node.dicom.connection import plain_address, prepare_library
from node.dicom.evidence_scp import NO_SUCH_CLASS, EvidenceProvider
from node.dicom.filing import SUCCESS, Answer, Filing, Session
from node.dicom.incoming import IncomingDataSet, StreamingProvider, called_ae_title
from node.dicom.receiving_lane import ReceivingLane, contract_violations
from node.dicom.server import ListeningServer
from node.dicom.services import keep_to
from node.dicom.store_command import StoreRequest
from node.dicom.tls_gate import TlsGate
from node.dicom.workitem_events import WorkitemEvents
from node.doorbell import SCHEDULER, SENDER, ring
from node.errors import ObjectRejected, StoreUnavailable
from node.listening import Listener, addresses
from node.liveness import Liveness
from node.own_equipment import OwnEquipment
from node.settings import Settings

logger = logging.getLogger(__name__)

_ASSOCIATION_REQUEST_SECONDS = 15.0
_STOP_SECONDS = 5.0
# A listener's loop turns ten times a second.
_TURN_SECONDS = 5.0
_TICK_SECONDS = 0.25


class _Reception(StreamingProvider):
    """DIMSE provider of an accepted association, with what the receiver knows about it."""

    session: Session | None = None
    lane: ReceivingLane | None = None


class Receiver:
    """Accepts associations for one process.

    Parameters
    ----------
    settings : Settings
    store : Store
        Open; shared by every association of the process.
    spool : Spool
    """

    def __init__(self, settings: Settings, store: Store, spool: Spool) -> None:
        self._settings = settings
        self._store = store
        self._spool = spool
        self._filing = Filing(settings, store, spool)
        self._with_lane = False
        self._bells = settings.data_dir / "run"
        self._admission = Admission(settings, store)
        self._evidence = EvidenceProvider(settings.evidence, store, self._bells)
        self._workitems = WorkitemEvents(settings, store, self._bells)
        self._servers: dict[Listener, ListeningServer] = {}

    def start(
        self, listening_socket: socket.socket | None = None, tls_socket: socket.socket | None = None
    ) -> tuple[str, int]:
        """Begin to accept, on inherited sockets where there are any; return host and port, the plain ones first."""
        prepare_library()
        # Associations of a predecessor ended with it; other receivers, who live, go on with theirs.
        self._filing.close_lost(time.time())
        self._filing.start()
        self._with_lane = self._settings.receive.lane == "auto" and _lane_can_work()
        sockets = {Listener.PLAIN: listening_socket, Listener.TLS: tls_socket}
        for name, address in addresses(self._settings).items():
            self._servers[name] = self._new_server(address, sockets[name], self._admission.gate(name))
        bound = [server.serve_in_background() for server in self._servers.values()]
        return bound[0]

    def _new_server(
        self, address: tuple[str, int], listening_socket: socket.socket | None, gate: TlsGate | None
    ) -> ListeningServer:
        receive = self._settings.receive
        entity = AE(ae_title=self._settings.node.ae_title)
        entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_pdu_size = receive.maximum_pdu_bytes
        entity.maximum_associations = receive.maximum_associations
        entity.acse_timeout = min(_ASSOCIATION_REQUEST_SECONDS, receive.idle_timeout_seconds)
        entity.network_timeout = receive.idle_timeout_seconds
        entity.dimse_timeout = receive.idle_timeout_seconds
        return ListeningServer(
            entity,
            address,
            contexts=[*supported_contexts(), *self._evidence.contexts(), *self._workitems.contexts()],
            handlers=[
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_N_EVENT_REPORT, self._on_event_report),
                *self._evidence.handlers(),
            ],
            listening_socket=listening_socket,
            knows=self._admission.knows,
            gate=gate,
            limit_seconds=receive.maximum_association_seconds,
            prepare=self._on_connection,
            finished=self._on_finished,
        )

    def accepting(self) -> bool:
        """Whether every listener's loop has turned within the last seconds, and what it brings comes into the index."""
        latest = time.monotonic() - _TURN_SECONDS
        return self._filing.is_alive and all(server.turned_at >= latest for server in self._servers.values())

    def stop(self, grace_seconds: float = _STOP_SECONDS) -> None:
        """Stop accepting, let associations finish for ``grace_seconds``, abort the rest."""
        for server in self._servers.values():
            server.shutdown()
        for server in self._servers.values():
            server.finish(grace_seconds)
        if self._servers:
            self._filing.stop()
        self._servers.clear()
        self._admission.close()

    # -- association ----------------------------------------------------------------------------------------------

    def _on_connection(self, association: Association) -> None:
        receive = self._settings.receive
        reception = _Reception(
            association,
            self._spool,
            limit_bytes=receive.maximum_object_bytes,
            limit_seconds=receive.maximum_object_seconds,
        )
        association.dimse = reception
        if self._with_lane:

            def file_instance(incoming: IncomingDataSet, request: StoreRequest) -> Answer:
                return self._filing.file(
                    incoming,
                    sop_class_uid=request.sop_class_uid,
                    sop_instance_uid=request.sop_instance_uid,
                    session=cast(Session, reception.session),
                    move_originator=request.move_originator,
                    move_originator_message_id=request.move_originator_message_id,
                )

            reception.lane = ReceivingLane(association, file_instance)

    def _on_requested(self, event: evt.Event) -> None:
        association = event.assoc
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        session = Session(
            id=str(uuid.uuid4()),
            calling_ae_title=str(request.calling_ae_title).strip(),
            called_ae_title=called_ae_title(association),
            address=plain_address(association.requestor.address),
            opened_at=time.time(),
        )
        requestor = Requestor(session.id, session.calling_ae_title, session.called_ae_title, session.address)
        refusal = self._admission.admit(association, requestor)
        if refusal is not None:
            association.acse.send_reject(*REJECTION[refusal])
            association.kill()
            return
        _reception(association).session = session
        keep_to(self._admission.services(association, requestor), association)
        _prefer_explicit_vr(request.presentation_context_definition_list)

    def _on_finished(self, association: Association) -> None:
        reception = _reception(association)
        reception.discard()
        if reception.lane is not None:
            reception.lane.close()
        session = reception.session
        if session is None:
            return
        self._admission.ended(session.id)
        ending = (
            Ending.RELEASED if association.is_released else Ending.ABORTED if association.is_aborted else Ending.LOST
        )
        self._filing.end(session, ending)

    # -- C-STORE --------------------------------------------------------------------------------------------------

    def _on_store(self, event: evt.Event) -> Dataset | int:
        request = cast(C_STORE, event.request)
        answer = self._filing.file(
            cast(IncomingDataSet, request.DataSet),
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            session=cast(Session, _reception(event.assoc).session),
            move_originator=str(request.MoveOriginatorApplicationEntityTitle or "").strip(),
            move_originator_message_id=request.MoveOriginatorMessageID,
        )
        if answer.status == SUCCESS:
            return SUCCESS
        response = Dataset()
        response.Status = answer.status
        response.ErrorComment = answer.comment
        return response

    # -- reports of others -----------------------------------------------------------------------------------------

    def _on_event_report(self, event: evt.Event) -> tuple[int, None]:
        if self._workitems.serves(event):
            return self._workitems.serve(event)
        if event.context.abstract_syntax != StorageCommitmentPushModel:
            return NO_SUCH_CLASS, None
        return self._on_commitment(event)

    def _on_commitment(self, event: evt.Event) -> tuple[int, None]:
        """A PACS answers a commitment request on an association of its own (PS3.4 J.3.3)."""
        try:
            answer = read_answer(event.event_information)
            with self._store.write() as connection:
                outcome = outbox.resolve_commitment(
                    connection,
                    time.time(),
                    answer.transaction_uid,
                    answer.committed,
                    answer.failed,
                    maximum_attempts=max(
                        (d.maximum_attempts for d in self._settings.destination.values()), default=None
                    ),
                )
        except ObjectRejected as error:
            logger.warning("a storage commitment answer cannot be used: %s", error)
            return INVALID_ARGUMENT, None
        except StoreUnavailable as error:
            logger.error("a storage commitment answer could not be recorded: %s", error)
            return PROCESSING_FAILURE, None
        if not outcome.known:
            logger.warning("a storage commitment answer to no open request of ours (%s)", answer.transaction_uid)
        ring(self._bells, SENDER)
        return SUCCESS, None


def _reception(association: Association) -> _Reception:
    return cast(_Reception, association.dimse)


def _lane_can_work() -> bool:
    violations = contract_violations()
    if violations:
        logger.warning("receiving without the lane, slower: pynetdicom differs (%s)", "; ".join(violations))
    return not violations


def supported_contexts() -> list[PresentationContext]:
    """What is negotiated by name; storage is unrestricted (private and future SOP classes too)."""
    commitment = build_context(StorageCommitmentPushModel, list(PLAIN_TRANSFER_SYNTAXES))
    # Peers propose their role in every way the standard knows, and in some it does not.
    commitment.scu_role = True
    commitment.scp_role = True
    return [build_context(Verification, list(PLAIN_TRANSFER_SYNTAXES)), commitment]


def _prefer_explicit_vr(contexts: list[PresentationContext]) -> None:
    """Put Explicit VR Little Endian first where it is offered beside other plain syntaxes.

    Implicit VR loses the representation of private elements (b-values, slopes) on the way. A compressed syntax the
    sender put first stays first: objects are taken as they are.
    """
    for context in contexts:
        offered = context.transfer_syntax
        if (
            offered
            and offered[0] in (ImplicitVRLittleEndian, ExplicitVRBigEndian)
            and ExplicitVRLittleEndian in offered
        ):
            context.transfer_syntax = [
                ExplicitVRLittleEndian,
                *(uid for uid in offered if uid != ExplicitVRLittleEndian),
            ]


def run_receiver(
    settings: Settings,
    stop_event: threading.Event,
    listeners: Mapping[Listener, socket.socket] | None = None,
    liveness: Liveness | None = None,
) -> None:
    """Main of a receiver process: accept until ``stop_event`` is set.

    In mode ``association`` an acknowledged instance may have its file but not yet its row when a receiver is killed; what
    a predecessor left so is indexed beside the accepting.

    Parameters
    ----------
    listeners : mapping or None
        Bound by the supervisor and shared by every receiver; without them the configured addresses are bound.
    liveness : Liveness or None
        Told that the receiver is ready when it accepts, with its store open and its spool there; and that it is alive
        as long as every listener's loop turns.
    """
    liveness = liveness or Liveness()
    started_at = time.time()
    sockets = listeners or {}
    store = open_store(settings)
    try:
        spool = Spool(settings.data_dir / "spool", settings.receive.disk_reserve_bytes)
        receiver = Receiver(settings, store, spool)
        host, port = receiver.start(sockets.get(Listener.PLAIN), sockets.get(Listener.TLS))
        logger.info("receiving on %s:%d", host, port)
        left = threading.Thread(target=_index_left, args=(settings, store, spool, started_at), daemon=True)
        left.start()
        liveness.ready(f"receiving on {host}:{port}")
        while not stop_event.wait(_TICK_SECONDS):
            if receiver.accepting():
                liveness.beat()
        liveness.stopping()
        receiver.stop()
        left.join(_STOP_SECONDS)
    finally:
        store.close()


def _index_left(settings: Settings, store: Store, spool: Spool, before: float) -> None:
    if settings.receive.mode != "association":
        return
    try:
        own, outbox_folder = OwnEquipment.of(settings), settings.data_dir / "outbox"
        report = index.rescan(store, spool, outbox=outbox_folder, own=own, before=before, look_for_missing=False)
    except StoreUnavailable as error:
        logger.error("what a receiver left could not be indexed, `ainode db rescan` does it: %s", error)
        return
    if report.indexed:
        logger.warning("%d files that a killed receiver had not indexed yet are indexed", report.indexed)
        ring(settings.data_dir / "run", SCHEDULER)
