"""A modality on loopback: it stores images, and says by MPPS, IAN and commitment request what belongs together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    MRImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from node.dicom.connection import prepare_library


def listed(files: Sequence[Path]) -> dict[str, list[Dataset]]:
    """Series UID → headers."""
    series: dict[str, list[Dataset]] = {}
    for file in files:
        header = dcmread(file, stop_before_pixels=True)
        series.setdefault(str(header.SeriesInstanceUID), []).append(header)
    return series


@dataclass
class Modality:
    """Calls ``host:port`` as ``ae_title``.

    ``released`` is called when an association is over; ``storing`` counts those that stand open to store.
    """

    host: str
    port: int
    ae_title: str = "MODALITY"
    called_ae_title: str = "AINODE"
    released: Callable[[], None] = lambda: None
    storing: int = 0

    @contextmanager
    def association(self, *contexts: str) -> Iterator[Association]:
        """An open association, released at the end."""
        prepare_library()
        entity = AE(ae_title=self.ae_title)
        for context in contexts:
            entity.add_requested_context(UID(context))
        if not contexts:
            entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        opened = entity.associate(self.host, self.port, ae_title=self.called_ae_title)
        assert opened.is_established, "the association was not accepted"
        self.storing += not contexts
        try:
            yield opened
        finally:
            opened.release()
            self.storing -= not contexts
            self.released()

    def store(self, files: Sequence[Path], *, over: Association | None = None) -> None:
        """C-STORE every file over one association."""
        if over is None:
            with self.association() as opened:
                self.store(files, over=opened)
            return
        for file in files:
            status = over.send_c_store(str(file))
            assert status.get("Status", None) == 0x0000, status

    def begin_step(self, step_uid: str, study_uid: str, *, accession: str = "A1") -> int:
        """N-CREATE of a performed step, IN PROGRESS."""
        step = Dataset()
        step.PerformedProcedureStepStatus = "IN PROGRESS"
        step.PerformedStationAETitle = self.ae_title
        step.Modality = "MR"
        step.PerformedSeriesSequence = []
        scheduled = Dataset()
        scheduled.StudyInstanceUID = study_uid
        scheduled.AccessionNumber = accession
        step.ScheduledStepAttributesSequence = DicomSequence([scheduled])
        return self._create(step, ModalityPerformedProcedureStep, step_uid)

    def end_step(self, step_uid: str, files: Sequence[Path], *, status: str = "COMPLETED") -> int:
        """N-SET with the list of what was made."""
        changed = Dataset()
        changed.PerformedProcedureStepStatus = status
        changed.PerformedSeriesSequence = DicomSequence(
            self._series(uid, headers, "ReferencedImageSequence") for uid, headers in listed(files).items()
        )
        with self.association(ModalityPerformedProcedureStep) as opened:
            response, _ = opened.send_n_set(changed, ModalityPerformedProcedureStep, UID(step_uid))
        return int(response.Status)

    def notify(self, notification_uid: str, files: Sequence[Path]) -> int:
        """Instance Availability Notification about files of one study."""
        series = listed(files)
        notification = Dataset()
        notification.StudyInstanceUID = next(iter(series.values()))[0].StudyInstanceUID
        notification.ReferencedPerformedProcedureStepSequence = []
        notification.ReferencedSeriesSequence = DicomSequence(
            self._series(uid, headers, "ReferencedSOPSequence") for uid, headers in series.items()
        )
        return self._create(notification, InstanceAvailabilityNotification, notification_uid)

    def ask_commitment(self, transaction_uid: str, files: Sequence[Path]) -> int:
        """N-ACTION of storage commitment."""
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = DicomSequence(
            _reference(header) for headers in listed(files).values() for header in headers
        )
        with self.association(StorageCommitmentPushModel) as opened:
            response, _ = opened.send_n_action(
                request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        return int(response.Status)

    def _create(self, dataset: Dataset, sop_class: Any, uid: str) -> int:
        with self.association(sop_class) as opened:
            response, _ = opened.send_n_create(dataset, sop_class, UID(uid))
        return int(response.Status)

    def _series(self, uid: str, headers: Sequence[Dataset], keyword: str) -> Dataset:
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.RetrieveAETitle = self.ae_title
        setattr(item, keyword, DicomSequence(_reference(header) for header in headers))
        return item


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item
