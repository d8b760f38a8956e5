"""An archive asked by QIDO-RS (PS3.18 10.6)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset

from node.dicomweb import json_model, qido
from node.dicomweb.json_model import Attributes
from node.dicomweb.web_client import WebClient, WebPeer
from node.errors import WebAnswerUnusable
from node.listed import ListedStudy
from node.listing import Listing, read_studies, within

# One parameter each: not every service takes them separated by commas (PS3.18 8.3.4.3 allows both).
_STUDY_FIELDS = ("AccessionNumber", "ModalitiesInStudy", "NumberOfStudyRelatedInstances", "StudyDescription")
_SERIES_UID, _MODALITY, _COUNT = "0020000E", "00080060", "00201209"


class WebView:
    """See :class:`node.archive_view.ArchiveView`."""

    def __init__(self, peer: WebPeer) -> None:
        self._peer = peer
        self._client: WebClient | None = None

    def __enter__(self) -> Self:
        self._client = WebClient(self._peer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()

    def studies_between(
        self, since: datetime, until: datetime, *, modalities: Sequence[str] = (), limit: int
    ) -> Listing:
        found: dict[str, ListedStudy] = {}
        span = f"{since:%Y%m%d}-{until:%Y%m%d}"
        for modality in modalities or [""]:
            match: dict[str, str | Sequence[str]] = {"StudyDate": span, "includefield": _STUDY_FIELDS}
            if modality:
                match["ModalitiesInStudy"] = modality
            for study in read_studies([self._dataset(each) for each in qido.studies(self._open, **match)]):
                if within(study, since, modality):
                    found[study.study_uid] = study
        ordered = sorted(found.values(), key=lambda study: (study.starts_at or 0.0, study.study_uid))
        # A service gives its answer page by page: what is left out here is more than a day can be looked at.
        return Listing(tuple(ordered[:limit]), int(len(ordered) > limit))

    def count_series(self, study_uid: str) -> dict[str, tuple[str, int]]:
        counts: dict[str, tuple[str, int]] = {}
        for each in qido.series(self._open, study_uid, includefield="NumberOfSeriesRelatedInstances"):
            uid = json_model.text(each, _SERIES_UID)
            if not uid:
                continue
            number = json_model.number(each, _COUNT)
            if number is None:
                number = len(qido.instances(self._open, study_uid, uid))
            counts[uid] = (json_model.text(each, _MODALITY), number)
        return counts

    def lists(self, study_uid: str, series_uid: str, sop_instance_uids: Sequence[str]) -> frozenset[str]:
        return qido.find_instances(
            self._open, study_uid=study_uid, series_uid=series_uid, sop_instance_uids=sop_instance_uids
        )

    def studies_of_patient(self, patient_id: str, issuer: str) -> list[Dataset]:
        match: dict[str, str | Sequence[str]] = {"PatientID": patient_id, "includefield": _STUDY_FIELDS}
        if issuer:
            match["IssuerOfPatientID"] = issuer
        return [self._dataset(each) for each in qido.studies(self._open, **match)]

    def modalities_of(self, study_uid: str) -> tuple[str, ...]:
        found = {json_model.text(each, _MODALITY) for each in qido.series(self._open, study_uid)}
        return tuple(sorted(found - {""}))

    @property
    def _open(self) -> WebClient:
        assert self._client is not None  # entered
        return self._client

    def _dataset(self, match: Attributes) -> Dataset:
        try:
            return Dataset.from_json(dict(match))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WebAnswerUnusable(f"{self._peer}: the answer is not DICOM JSON (PS3.18 annex F)") from error
