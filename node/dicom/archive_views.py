"""Archives as they are reached: by C-FIND, or by QIDO-RS."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset

from node.archive_view import ArchiveView
from node.dicom.association import ClientAssociation, Peer
from node.dicom.query import FIND_PROPOSAL, count_series, find, find_instances, modalities_of
from node.dicom.study_query import studies_between
from node.dicomweb.archive_view import WebView
from node.dicomweb.web_client import WebPeer
from node.listing import Listing
from node.settings import Settings


class DimseView:
    """An archive asked by C-FIND, study root; see :class:`node.archive_view.ArchiveView`."""

    def __init__(self, peer: Peer) -> None:
        self._association = ClientAssociation(peer, [FIND_PROPOSAL])

    def __enter__(self) -> Self:
        self._association.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._association.__exit__(kind, error, trace)

    def studies_between(
        self, since: datetime, until: datetime, *, modalities: Sequence[str] = (), limit: int
    ) -> Listing:
        return studies_between(self._association, since, until, modalities=modalities, limit=limit)

    def count_series(self, study_uid: str) -> dict[str, tuple[str, int]]:
        return count_series(self._association, study_uid)

    def lists(self, study_uid: str, series_uid: str, sop_instance_uids: Sequence[str]) -> frozenset[str]:
        return find_instances(
            self._association, study_uid=study_uid, series_uid=series_uid, sop_instance_uids=sop_instance_uids
        )

    def studies_of_patient(self, patient_id: str, issuer: str) -> list[Dataset]:
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        query.PatientID = patient_id
        if issuer:
            query.IssuerOfPatientID = issuer
        for keyword in ("StudyInstanceUID", "StudyDate", "StudyDescription", "ModalitiesInStudy"):
            setattr(query, keyword, "")
        query.NumberOfStudyRelatedInstances = None
        return find(self._association, query)

    def modalities_of(self, study_uid: str) -> tuple[str, ...]:
        return modalities_of(self._association, study_uid)


def web_peer_of(settings: Settings, archive: str) -> WebPeer | None:
    """The web service behind an archive's name: a source, or a DICOMweb destination; None where it speaks DIMSE."""
    if archive in settings.web_source:
        return WebPeer.of(settings.web_source[archive])
    destination = settings.destination[archive]
    return WebPeer.of(destination) if destination.url else None


def view_of(settings: Settings, archive: str) -> ArchiveView:
    """A connection to the archive of a name, not opened yet."""
    web = web_peer_of(settings, archive)
    if web is not None:
        return WebView(web)
    return DimseView(Peer.of(settings.destination[archive], settings.node.ae_title))
