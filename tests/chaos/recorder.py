"""A PACS that only watches: it complains when a UID comes back with other bytes, or a study gets a second object of a role."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)


@dataclass
class Recorder:
    """Stores digests, answers commitment on a new association to the node."""

    port: int
    node_port: int
    ae_title: str = "RECORDER"
    digests: dict[str, str] = field(default_factory=dict)
    roles: dict[tuple[str, str, str], str] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def start(self) -> None:
        self._lock = threading.Lock()
        entity = AE(self.ae_title)
        entity.add_supported_context(Verification)
        entity.add_supported_context(StorageCommitmentPushModel)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax, AllTransferSyntaxes)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action)]
        self._server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        self._server.shutdown()

    def objects_of(self, study_uid: str) -> dict[str, str]:
        """Role (SOP class and series description) → SOP Instance UID."""
        with self._lock:
            return {f"{key[1]} {key[2]}": uid for key, uid in self.roles.items() if key[0] == study_uid}

    def _store(self, event: evt.Event) -> int:
        raw = event.encoded_dataset(include_meta=False)
        uid, digest = str(event.request.AffectedSOPInstanceUID), hashlib.sha256(raw).hexdigest()
        meta = event.encoded_dataset(include_meta=True)
        dataset = dcmread(DicomBytesIO(meta), stop_before_pixels=True)
        key = (str(dataset.StudyInstanceUID), str(dataset.SOPClassUID), str(dataset.get("SeriesDescription", "")))
        with self._lock:
            if self.digests.setdefault(uid, digest) != digest:
                self.violations.append(f"{uid} came with other bytes")
            if self.roles.setdefault(key, uid) != uid:
                self.violations.append(f"second object for {key}: {uid} beside {self.roles[key]}")
        return 0x0000

    def _action(self, event: evt.Event) -> tuple[int, None]:
        threading.Thread(target=self._report, args=(event.action_information,), daemon=True).start()
        return 0x0000, None

    def _report(self, request: Dataset) -> None:
        answer = Dataset()
        answer.TransactionUID = request.TransactionUID
        with self._lock:
            known = [
                item for item in request.ReferencedSOPSequence if str(item.ReferencedSOPInstanceUID) in self.digests
            ]
            unknown = [
                item for item in request.ReferencedSOPSequence if str(item.ReferencedSOPInstanceUID) not in self.digests
            ]
        answer.ReferencedSOPSequence = known
        if unknown:
            for item in unknown:
                item.FailureReason = 0x0112
            answer.FailedSOPSequence = unknown
        entity = AE(self.ae_title)
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate("127.0.0.1", self.node_port, ae_title="AINODE", ext_neg=[role])
        if association.is_established:
            # A node that was just killed asks again after its timeout; nothing to do here.
            association.send_n_event_report(
                answer, 2 if unknown else 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            association.release()
