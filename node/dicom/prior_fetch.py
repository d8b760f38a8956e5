"""Finds a patient's earlier studies at the archive and brings the relevant ones into their own space."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom import evt

from node.archive import priors as stored
from node.archive.engine import Store
from node.archive.part10 import file_meta_bytes
from node.archive.priors import PriorFile
from node.archive.spool import Spool
from node.dicom.archive_views import view_of, web_peer_of
from node.dicom.association import Peer
from node.dicom.filing import Filing
from node.dicom.retrieve import Retrieved, get_study, move_study
from node.dicomweb.wado import fetch_study
from node.errors import NoPresentationContext, ObjectRejected, PeerError, SpoolFull, StoreUnavailable
from node.orders import Order
from node.relevant_priors import Chosen, EarlierStudy, relevant
from node.settings import Settings

logger = logging.getLogger(__name__)

_RETRIEVE_SECONDS = 900.0
# Of a patient with a long history the latest studies are enough.
_STUDIES_LOOKED_AT = 100
_SUCCESS, _OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000


class PriorFetcher:
    """Fetches for one node.

    Parameters
    ----------
    settings : Settings
        ``priors.archive`` names a destination.
    store : Store
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        assert settings.priors.archive is not None
        self._settings = settings
        self._section = settings.priors
        self._store = store
        self._archive = settings.priors.archive
        # How long the archive took for the last question: a measure of its load.
        self.response_seconds = 0.0
        self._spool = Spool(settings.data_dir / stored.FOLDER, settings.receive.disk_reserve_bytes)

    def fetch(self, order: Order, order_id: int | None) -> list[dict[str, Any]]:
        """Fetch what is relevant for an order and not here yet; return what became of each study.

        Raises
        ------
        PeerError
            The archive could not be asked.
        """
        today = datetime.now().date()
        return [self._bring(chosen, order_id) for chosen in relevant(order, self._earlier(order), self._section, today)]

    def make_room(self) -> int:
        """Remove what is too old or too much."""
        with self._store.write() as connection:
            return stored.make_room(
                connection,
                self._spool.root,
                keep_bytes=self._section.space_bytes,
                received_before=time.time() - self._section.keep_days * 86400.0,
            )

    def _earlier(self, order: Order) -> list[EarlierStudy]:
        """Every study the archive has of a patient. Without an id nobody is looked for."""
        if not order.patient_id.strip():
            return []
        with view_of(self._settings, self._archive) as view:
            asked = time.monotonic()
            listed = view.studies_of_patient(order.patient_id, order.issuer_of_patient_id)
            found = [_earlier(each) for each in listed if each.get("StudyInstanceUID")]
            self.response_seconds = time.monotonic() - asked
            found.sort(key=lambda study: study.study_date, reverse=True)
            return [
                study if study.modalities else replace(study, modalities=view.modalities_of(study.study_uid))
                for study in found[:_STUDIES_LOOKED_AT]
            ]

    def _bring(self, chosen: Chosen, order_id: int | None) -> dict[str, Any]:
        study = chosen.study
        facts: dict[str, Any] = {"study_uid": study.study_uid, "why": chosen.words, "study_date": study.study_date}
        with self._store.read() as connection:
            here = len(stored.instances_of_study(connection, study.study_uid))
        if here and here >= (study.instances or here):
            return {**facts, "method": "here", "completed": here, "failed": 0}
        with self._store.read() as connection:
            used = stored.space_used(connection)
        if used >= self._section.space_bytes:
            return {**facts, "method": "none", "completed": 0, "failed": 0, "message": "the space for priors is full"}
        ways: list[tuple[str, Callable[[str], Retrieved]]] = []
        if web_peer_of(self._settings, self._archive) is not None:
            return {**facts, **self._by([("wado", self._wado)], study.study_uid, order_id)}
        if self._section.method in ("auto", "get"):
            ways.append(("get", self._get))
        if self._section.method in ("auto", "move"):
            ways.append(("move", self._move))
        return {**facts, **self._by(ways, study.study_uid, order_id)}

    def _by(
        self, ways: list[tuple[str, Callable[[str], Retrieved]]], study_uid: str, order_id: int | None
    ) -> dict[str, Any]:
        """The first way that the archive offers."""
        message = ""
        for method, retrieve in ways:
            with self._store.write() as connection:
                number = stored.begin(
                    connection,
                    time.time(),
                    study_uid=study_uid,
                    peer=self._section.archive or "",
                    method=method,
                    order_id=order_id,
                )
            outcome, message = Retrieved(0, 0, 0), ""
            offered = True
            try:
                outcome = retrieve(study_uid)
            except NoPresentationContext as error:
                offered, message = False, error.message
            except (PeerError, ObjectRejected) as error:
                message = error.message
            completed = outcome.completed + outcome.warnings
            with self._store.write() as connection:
                stored.end(
                    connection,
                    time.time(),
                    number,
                    completed=completed,
                    failed=outcome.failed,
                    message=message or None,
                )
            if offered:
                return {"method": method, "completed": completed, "failed": outcome.failed, "message": message}
        return {"method": "none", "completed": 0, "failed": 0, "message": message}

    def _wado(self, study_uid: str) -> Retrieved:
        peer = web_peer_of(self._settings, self._archive)
        assert peer is not None
        filing = Filing(self._settings, self._store, self._spool, as_priors=True)
        report = fetch_study(peer, study_uid, self._archive, self._settings, filing, self._spool)
        return Retrieved(len(report.filed), len(report.refused), 0)

    @property
    def _peer(self) -> Peer:
        return Peer.of(self._settings.destination[self._archive], self._settings.node.ae_title)

    def _move(self, study_uid: str) -> Retrieved:
        return move_study(self._peer, study_uid, to_ae_title=self._settings.node.ae_title, seconds=_RETRIEVE_SECONDS)

    def _get(self, study_uid: str) -> Retrieved:
        def take(event: evt.Event) -> int:
            return self._take(event, study_uid)

        return get_study(self._peer, study_uid, take, seconds=_RETRIEVE_SECONDS)

    def _take(self, event: evt.Event, study_uid: str) -> int:
        """File one instance of a C-GET; durable before it is acknowledged, as everything that is received."""
        request: Any = event.request
        part = self._spool.begin()
        try:
            part.transfer_syntax_uid = str(event.context.transfer_syntax)
            part.write(
                file_meta_bytes(
                    sop_class_uid=str(request.AffectedSOPClassUID),
                    sop_instance_uid=str(request.AffectedSOPInstanceUID),
                    transfer_syntax_uid=part.transfer_syntax_uid,
                    sending_ae_title=self._peer.ae_title,
                    receiving_ae_title=self._settings.node.ae_title,
                )
            )
            part.write_dataset(event.encoded_dataset(include_meta=False))
            header = part.header()
            if header.study_uid != study_uid:
                raise ObjectRejected("an instance of another study than the one asked for")
            digest = part.hash.hexdigest()
            path = part.commit(header.study_uid, header.sop_instance_uid, digest)
            with self._store.write() as connection:
                stored.record(
                    connection, time.time(), header, PriorFile(path, digest, part.size), root=self._spool.root
                )
        except ObjectRejected as error:
            logger.warning("an instance of an earlier study was refused: %s", error)
            return _CANNOT_UNDERSTAND
        except (SpoolFull, StoreUnavailable) as error:
            logger.warning("an instance of an earlier study could not be kept: %s", error)
            return _OUT_OF_RESOURCES
        finally:
            part.discard()
        return _SUCCESS


def _earlier(found: Dataset) -> EarlierStudy:
    number = found.get("NumberOfStudyRelatedInstances")
    modalities = found.get("ModalitiesInStudy")
    several = list(modalities) if isinstance(modalities, MultiValue | list) else [modalities] if modalities else []
    return EarlierStudy(
        study_uid=str(found.StudyInstanceUID),
        patient_id=str(found.get("PatientID") or ""),
        study_date=str(found.get("StudyDate") or ""),
        modalities=tuple(str(each) for each in several),
        description=str(found.get("StudyDescription") or ""),
        instances=int(number) if number not in (None, "") else None,
    )
