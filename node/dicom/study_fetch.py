"""Fetches studies to run on from an archive: one at a time, in the order of their urgency.

C-MOVE has the archive send to this node's own listener. C-GET brings the images over our association; they are filed
by the same code as everything that is received, so the same promises hold.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt

from node.archive import archive_studies, priors
from node.archive.engine import Store
from node.archive.index import Ending
from node.archive.part10 import file_meta_bytes
from node.archive.spool import Part, Spool
from node.dicom.archive_views import view_of, web_peer_of
from node.dicom.association import Peer
from node.dicom.filing import Filing, Session
from node.dicom.incoming import IncomingDataSet
from node.dicom.retrieve import Retrieved, get_study, move_study
from node.dicomweb.wado import fetch_study
from node.doorbell import SCHEDULER, ring
from node.errors import NoPresentationContext, ObjectRejected, PeerError
from node.settings import Settings
from node.status import run_folder

logger = logging.getLogger(__name__)

_RETRIEVE_SECONDS = 1800.0
# While a study stands open as a prior, what comes of it goes into the space of priors.
_PRIOR_PAUSE_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one study.

    Attributes
    ----------
    state : str
        Of its row: done, waiting (for another attempt) or failed.
    response_seconds : float
        How long the archive took to answer a query: a measure of its load that does not depend on the study's size.
    """

    study_uid: str
    state: str
    method: str
    completed: int
    failed: int
    response_seconds: float
    seconds: float
    message: str = ""


class StudyFetcher:
    """Fetches for one node.

    Parameters
    ----------
    settings : Settings
    store : Store
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._spool = Spool(settings.data_dir / "spool", settings.receive.disk_reserve_bytes)

    def fetch_next(self, *purposes: str) -> Fetched | None:
        """Fetch the most urgent study that waits for one of these purposes; None where none does.

        Parameters
        ----------
        purposes : str
            ``reconcile``, ``watch``, ``backfill``, ``workitem``.
        """
        now = time.time()
        with self._store.write() as connection:
            row = archive_studies.claim(connection, now, purposes=purposes)
            if row is None:
                return None
            if priors.is_prior(connection, now, row.study_uid, moved_by_us=True):
                archive_studies.put_off(connection, row, now + _PRIOR_PAUSE_SECONDS, "it is being fetched as a prior")
                return Fetched(row.study_uid, "waiting", "none", 0, 0, 0.0, 0.0, "it is being fetched as a prior")
        return self._fetch(row)

    def _fetch(self, row: Any) -> Fetched:
        started, response = time.monotonic(), 0.0
        method, outcome, message, refused = "none", Retrieved(0, 0, 0), "", False
        if row.archive not in self._settings.archives:
            message, refused = f"there is no archive {row.archive} in the configuration any more", True
        else:
            try:
                with view_of(self._settings, row.archive) as view:
                    asked = time.monotonic()
                    view.count_series(row.study_uid)
                    response = time.monotonic() - asked
                method, outcome, message = self._retrieve(row)
            except (PeerError, ObjectRejected) as error:
                message = error.message
        completed = outcome.completed + outcome.warnings
        if not message and not completed and not outcome.failed:
            message = "the archive sent nothing"
        seconds = time.monotonic() - started
        with self._store.write() as connection:
            state = archive_studies.ended(
                connection,
                time.time(),
                row,
                method=method,
                completed=completed,
                failed=outcome.failed,
                seconds=seconds,
                message=message,
                refused=refused,
            )
        ring(run_folder(self._settings.data_dir), SCHEDULER)
        return Fetched(row.study_uid, state, method, completed, outcome.failed, response, seconds, message)

    def _retrieve(self, row: Any) -> tuple[str, Retrieved, str]:
        """The first way that the archive offers."""
        web = web_peer_of(self._settings, row.archive)
        if web is not None:
            filing = Filing(self._settings, self._store, self._spool)
            report = fetch_study(web, row.study_uid, row.archive, self._settings, filing, self._spool)
            return "wado", Retrieved(len(report.filed), len(report.refused), 0), ""
        peer = Peer.of(self._settings.destination[row.archive], self._settings.node.ae_title)
        ways: list[tuple[str, Callable[[], Retrieved]]] = []
        if row.method in ("auto", "get"):
            ways.append(("get", lambda: self._get(peer, row.study_uid)))
        if row.method in ("auto", "move"):
            ways.append(("move", lambda: self._move(peer, row.study_uid)))
        message = ""
        for method, retrieve in ways:
            try:
                return method, retrieve(), ""
            except NoPresentationContext as error:
                message = error.message
        return "none", Retrieved(0, 0, 0), message

    def _move(self, peer: Peer, study_uid: str) -> Retrieved:
        return move_study(peer, study_uid, to_ae_title=self._settings.node.ae_title, seconds=_RETRIEVE_SECONDS)

    def _get(self, peer: Peer, study_uid: str) -> Retrieved:
        filing = Filing(self._settings, self._store, self._spool)
        session = Session(str(uuid.uuid4()), peer.ae_title, self._settings.node.ae_title, peer.host, time.time())
        ending = Ending.ABORTED
        filing.start()
        try:
            outcome = get_study(
                peer, study_uid, lambda event: self._take(event, filing, session), seconds=_RETRIEVE_SECONDS
            )
            ending = Ending.RELEASED
        finally:
            filing.end(session, ending)
            filing.stop()
        return outcome

    def _take(self, event: evt.Event, filing: Filing, session: Session) -> int:
        """File one instance of a C-GET; durable before it is acknowledged, as everything that is received."""
        request: Any = event.request
        syntax = str(event.context.transfer_syntax)

        def begin() -> Part:
            part = self._spool.begin()
            part.transfer_syntax_uid = syntax
            part.write(
                file_meta_bytes(
                    sop_class_uid=str(request.AffectedSOPClassUID),
                    sop_instance_uid=str(request.AffectedSOPInstanceUID),
                    transfer_syntax_uid=syntax,
                    sending_ae_title=session.calling_ae_title,
                    receiving_ae_title=session.called_ae_title,
                )
            )
            return part

        receive = self._settings.receive
        incoming = IncomingDataSet(begin, limit_bytes=receive.maximum_object_bytes, limit_seconds=_RETRIEVE_SECONDS)
        incoming.write(event.encoded_dataset(include_meta=False))
        return filing.file(
            incoming,
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            session=session,
        ).status
