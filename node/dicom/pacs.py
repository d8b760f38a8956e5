"""A small PACS for demonstration and tests: store, query, storage commitment. Not for patients.

It keeps files as received, commits to what it has and to nothing else, and refuses a SOP Instance UID that arrives
with other bytes, so that a sender that rebuilds instead of resending is found out.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from models.errors import NodeError
from node.archive.headers import read_header
from node.archive.part10 import file_meta_bytes
from node.archive.placing import checked_uid
from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.commitment import (
    ALL_COMMITTED,
    COMMITMENT_SOP_CLASS,
    NOT_MENTIONED,
    SOME_FAILED,
    failure_information,
    information,
    references_of,
)
from node.dicom.connection import parked, prepare_library
from node.dicom.matching import matches, response_to
from node.dicom.server import ListeningServer
from node.dicom.tls_gate import TlsGate
from node.errors import ObjectRejected

logger = logging.getLogger(__name__)

_SAFE_SECONDS = 0.005
_CONFLICT = 0xC001
_UNREADABLE = 0xC000
_FILE_NAME = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True)
class Held:
    """One stored instance. ``header`` is the data set without bulk data."""

    path: Path
    digest: str
    header: Dataset


class TestPacs:
    """The PACS, in the calling process.

    Parameters
    ----------
    folder : Path
        Where files are kept; what lies there is served again.
    port : int
        0 takes a free one.
    node : Peer or None
        Where to send commitment answers on an association of its own; None answers on the requestor's association.
    refuse : bool
        Answer every C-STORE with 0xA700, as a full archive does.
    gate : TlsGate or None
        Listen with TLS.

    Attributes
    ----------
    conflicts : list of str
        SOP Instance UIDs that arrived with other bytes and were refused.
    commitments : list of (str, int, int)
        Transaction UID, committed and failed instances of every answer that was delivered.
    """

    __test__ = False  # no test case, whatever pytest thinks of the name

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        ae_title: str = "TESTPACS",
        node: Peer | None = None,
        refuse: bool = False,
        gate: TlsGate | None = None,
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.refuse = refuse
        self.conflicts: list[str] = []
        self.commitments: list[tuple[str, int, int]] = []
        self._address = (host, port)
        self._node = node
        self._gate = gate
        self._held: dict[str, Held] = {}
        self._guard = threading.Lock()
        self._answers: queue.Queue[tuple[Association, Dataset] | None] = queue.Queue()
        self._server: ListeningServer | None = None
        self._reporter: threading.Thread | None = None

    @property
    def objects(self) -> dict[str, Path]:
        """SOP Instance UID → file of everything stored."""
        with self._guard:
            return {uid: held.path for uid, held in self._held.items()}

    def forget(self) -> None:
        """Drop everything stored, files included."""
        with self._guard:
            held, self._held = list(self._held.values()), {}
        for each in held:
            each.path.unlink(missing_ok=True)

    def start(self) -> tuple[str, int]:
        """Begin to accept; return host and port."""
        prepare_library()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._read_folder()
        entity = AE(ae_title=self.ae_title)
        entity.maximum_pdu_size = 262144
        entity.maximum_associations = 100
        commitment = build_context(StorageCommitmentPushModel)
        commitment.scu_role = commitment.scp_role = True
        self._server = ListeningServer(
            entity,
            self._address,
            contexts=[
                build_context(Verification),
                build_context(StudyRootQueryRetrieveInformationModelFind),
                build_context(PatientRootQueryRetrieveInformationModelFind),
                commitment,
            ],
            handlers=[
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_C_FIND, self._on_find),
                (evt.EVT_N_ACTION, self._on_action),
            ],
            gate=self._gate,
        )
        self._reporter = threading.Thread(target=self._report_answers, name="commitment", daemon=True)
        self._reporter.start()
        host, port = self._server.serve_in_background()
        self._address = (host, port)
        return host, port

    def stop(self) -> None:
        """Stop accepting and end every association."""
        self._answers.put(None)
        if self._server is not None:
            self._server.stop(0.2)
            self._server = None
        if self._reporter is not None:
            self._reporter.join(10.0)

    @contextmanager
    def running(self) -> Iterator[tuple[str, int]]:
        """Start, yield host and port, stop."""
        address = self.start()
        try:
            yield address
        finally:
            self.stop()

    # -- storage ----------------------------------------------------------------------------------------------------

    def _on_store(self, event: evt.Event) -> int:
        if self.refuse:
            return 0xA700
        request = cast(C_STORE, event.request)
        uid = str(request.AffectedSOPInstanceUID)
        try:
            checked_uid(uid, "SOP Instance UID")
        except ObjectRejected:
            return _UNREADABLE
        data = event.encoded_dataset(include_meta=False)
        digest = hashlib.sha256(data).hexdigest()
        with self._guard:
            known = self._held.get(uid)
        if known is not None:
            if known.digest == digest:
                return 0x0000
            self.conflicts.append(uid)
            logger.error("%s arrived again with other bytes: refused", uid)
            return _CONFLICT
        meta = file_meta_bytes(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=uid,
            transfer_syntax_uid=str(event.context.transfer_syntax),
            sending_ae_title=str(event.assoc.requestor.ae_title).strip(),
            receiving_ae_title=self.ae_title,
        )
        path = self._write(uid, meta, data)
        try:
            self._hold(path, digest)
        except ObjectRejected:
            path.unlink()
            return _UNREADABLE
        return 0x0000

    def _write(self, uid: str, meta: bytes, data: bytes) -> Path:
        path = self.folder / f"{uid}.dcm"
        part = self.folder / f"{uuid.uuid4().hex}.part"
        with part.open("xb") as stream:
            stream.write(meta)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(path)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return path

    def _hold(self, path: Path, digest: str) -> None:
        read_header(path)
        header = dcmread(path, stop_before_pixels=True)
        with self._guard:
            self._held[path.stem] = Held(path, digest, header)

    def _read_folder(self) -> None:
        for part in self.folder.glob("*.part"):
            part.unlink()
        for path in sorted(self.folder.glob("*.dcm")):
            if not _FILE_NAME.fullmatch(path.stem):
                continue
            content = path.read_bytes()
            offset = 144 + int.from_bytes(content[140:144], "little")
            self._hold(path, hashlib.sha256(content[offset:]).hexdigest())

    # -- query ------------------------------------------------------------------------------------------------------

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        keys = {
            "PATIENT": "PatientID",
            "STUDY": "StudyInstanceUID",
            "SERIES": "SeriesInstanceUID",
            "IMAGE": "SOPInstanceUID",
        }
        key = keys.get(str(query.get("QueryRetrieveLevel", "")))
        if key is None:
            yield 0xA900, None
            return
        with self._guard:
            headers = [held.header for held in self._held.values()]
        seen: set[str] = set()
        for header in headers:
            identity = str(header.get(key, ""))
            if identity not in seen and matches(query, header):
                seen.add(identity)
                yield 0xFF00, response_to(query, header, self.ae_title)

    # -- storage commitment -----------------------------------------------------------------------------------------

    def _on_action(self, event: evt.Event) -> tuple[int, None]:
        request = event.action_information
        if not request.get("TransactionUID"):
            return 0x0115, None
        self._answers.put((event.assoc, request))
        return 0x0000, None

    def _report_answers(self) -> None:
        while (entry := self._answers.get()) is not None:
            association, request = entry
            try:
                self._answer(association, request)
            except (NodeError, RuntimeError, ValueError) as error:
                # The requestor asks again; a test PACS does not queue.
                logger.warning("a commitment answer could not be delivered: %s", error)

    def _answer(self, association: Association, request: Dataset) -> None:
        references = references_of(request)
        with self._guard:
            held = {
                reference
                for reference in references
                if (entry := self._held.get(reference.sop_instance_uid))
                and str(entry.header.SOPClassUID) == reference.sop_class_uid
            }
        committed = [reference for reference in references if reference in held]
        failed = [(reference, NOT_MENTIONED) for reference in references if reference not in held]
        transaction_uid = str(request.TransactionUID)
        if failed:
            self._report(association, failure_information(transaction_uid, committed, failed), SOME_FAILED)
        else:
            self._report(association, information(transaction_uid, committed), ALL_COMMITTED)
        self.commitments.append((transaction_uid, len(committed), len(failed)))

    def _report(self, association: Association, dataset: Dataset, event_type: int) -> None:
        if self._node is not None:
            proposal = Proposal(COMMITMENT_SOP_CLASS, as_provider=True)
            with ClientAssociation(self._node, [proposal]) as own, own.exchange() as connection:
                self._send(connection, dataset, event_type)
            return
        # The response to the request leaves first; an answer before it would confuse some requestors.
        threading.Event().wait(_SAFE_SECONDS)
        with parked(association):
            self._send(association, dataset, event_type)

    def _send(self, association: Association, dataset: Dataset, event_type: int) -> None:
        response, _ = association.send_n_event_report(
            dataset, event_type, UID(COMMITMENT_SOP_CLASS), StorageCommitmentPushModelInstance
        )
        if response.get("Status", None) != 0x0000:
            raise ObjectRejected("the commitment answer was not acknowledged")


def run_pacs(
    folder: Path,
    port: int,
    *,
    stop_event: threading.Event,
    host: str = "127.0.0.1",
    ae_title: str = "TESTPACS",
    node: Peer | None = None,
) -> None:
    """Main of ``ainode pacs``: serve until ``stop_event`` is set."""
    pacs = TestPacs(folder, port=port, host=host, ae_title=ae_title, node=node)
    with pacs.running() as (bound_host, bound_port):
        logger.info("test PACS %s on %s:%d, files in %s", ae_title, bound_host, bound_port, folder)
        stop_event.wait()
