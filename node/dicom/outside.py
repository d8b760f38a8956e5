"""What the scheduler asks other systems: what is coming, what the archive has, what earlier studies there are.

Every piece of work is bounded by its peer's time limits and tolerates that the peer is away: then the node knows less,
and nothing else changes.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from node import requests
from node.archive import commitment_requests, evidence, ledger
from node.archive import orders as stored
from node.archive.engine import Store
from node.archive.evidence import OPTIONAL, Statement
from node.archive.tables import objects, orders, studies
from node.arrival import Source
from node.dicom.archive_views import view_of
from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.commitment import (
    ALL_COMMITTED,
    COMMITMENT_SOP_CLASS,
    NOT_MENTIONED,
    SOME_FAILED,
    Reference,
    failure_information,
    information,
    send_answer,
)
from node.dicom.performer import PURPOSE, Performer
from node.dicom.prior_fetch import PriorFetcher
from node.dicom.query import FIND_PROPOSAL, find_instances
from node.dicom.query_record import note_query, note_study_query
from node.dicom.reconciliation import Reconciler
from node.dicom.retiring import Retiring
from node.dicom.study_fetch import StudyFetcher
from node.dicom.worklist import WORKLIST_PROPOSAL, WORKLIST_SOP_CLASS, peer_of, scheduled, worklist_query
from node.doorbell import SCHEDULER, ring
from node.errors import PeerError
from node.listed import NO_IMAGES
from node.orders import Order
from node.settings import Settings
from node.status import run_folder

logger = logging.getLogger(__name__)

_ORDERS_AT_ONCE = 5


class Outside:
    """The scheduler's view of other systems. Its methods run in threads of their own.

    Parameters
    ----------
    settings : Settings
    store : Store
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._bells = run_folder(settings.data_dir)
        self._asked: dict[str, float] = {}
        self._fetching = threading.Lock()
        self._priors = PriorFetcher(settings, store) if settings.priors.archive is not None else None
        self._reconciler = Reconciler(settings, store)
        self._fetcher = StudyFetcher(settings, store)
        self._fetching_studies = threading.Lock()
        self._performer = Performer(settings, store)
        self._retiring = Retiring(settings, store)

    # -- worklist -----------------------------------------------------------------------------------------------------

    def poll(self, name: str) -> int | None:
        """Ask a worklist what is scheduled; return how many entries it named, None where it could not be asked."""
        section = self._settings.worklist[name]
        now = datetime.now()
        since, until = now - timedelta(hours=section.hours_back), now + timedelta(hours=section.hours_ahead)
        try:
            with ClientAssociation(peer_of(section, self._settings.node.ae_title), [WORKLIST_PROPOSAL]) as association:
                found = scheduled(association, section, since, until)
        except PeerError as error:
            logger.warning("worklist %s cannot be asked: %s", name, error)
            return None
        if found.truncated:
            logger.warning("worklist %s has more entries in half an hour than maximum_entries", name)
        note_query(self._settings, self._store, name, WORKLIST_SOP_CLASS, worklist_query(section, "", "", since, until))
        with self._store.write() as connection:
            at = time.time()
            new, changed = stored.take(connection, at, name, found.orders)
            if not found.truncated:
                stored.gone(connection, at, name, since.timestamp(), until.timestamp())
        if new or changed:
            logger.info("worklist %s: %d entries, %d new, %d changed", name, len(found.orders), new, changed)
            ring(self._bells, SCHEDULER)
        return len(found.orders)

    # -- earlier studies ----------------------------------------------------------------------------------------------

    def fetch_priors(self) -> int:
        """Fetch earlier studies for orders that have none yet, the soonest first; return how many orders were served."""
        if self._priors is None or not self._fetching.acquire(blocking=False):
            return 0
        try:
            with self._store.read() as connection:
                waiting = connection.execute(
                    select(orders.c.id, orders.c.content, orders.c.study_uid)
                    # Gone or not: many worklists drop what has begun.
                    .where(orders.c.priors.is_(None))
                    .order_by(orders.c.starts_at, orders.c.id)
                    .limit(_ORDERS_AT_ONCE)
                ).all()
            return sum(self._fetch_for(self._priors, row) for row in waiting)
        finally:
            self._fetching.release()

    def _fetch_for(self, fetcher: PriorFetcher, row: Any) -> bool:
        order = Order.from_dict(row.content)
        try:
            fetched = fetcher.fetch(order, row.id)
        except PeerError as error:
            logger.warning("earlier studies cannot be looked for: %s", error)
            return False
        with self._store.write() as connection:
            connection.execute(update(orders).where(orders.c.id == row.id).values(priors=fetched))
            ledger.record(
                connection,
                time.time(),
                ledger.Kind.PRIORS_FETCHED,
                study_uid=row.study_uid or None,
                studies=[f"{each['study_uid']} ({each['why']})" for each in fetched],
                instances=sum(each["completed"] for each in fetched),
                failed=sum(each["failed"] for each in fetched),
                problems=sorted({each["message"] for each in fetched if each.get("message")}),
            )
        return True

    def make_room(self) -> int:
        """Remove earlier studies that are too old or too much."""
        return self._priors.make_room() if self._priors is not None else 0

    # -- studies of archives -------------------------------------------------------------------------------------------

    def watch(self, name: str) -> int | None:
        """Look for new studies at an archive that sends none; return how many are to be fetched."""
        found = self._reconciler.watch(name)
        if found is not None:
            note_study_query(self._settings, self._store, name)
        return found

    def reconcile(self) -> int | None:
        """Hold the archive against what is here; return the number of findings, None where it could not be asked."""
        section = self._settings.reconcile
        if section.archive is None:
            return None
        try:
            told = self._reconciler.reconcile(
                section.archive, time.time() - section.hours_back * 3600.0, fetch=section.fetch, insist=False
            )
        except PeerError as error:
            logger.warning("archive %s cannot be reconciled with: %s", section.archive, error)
            return None
        note_study_query(self._settings, self._store, section.archive)
        for each in told.found:
            logger.warning("study %s: %s: %s", each.study.study_uid, each.verdict.finding, each.verdict.words)
        return len(told.found)

    def fetch_studies(self) -> int:
        """Fetch what somebody wants from an archive, STAT first, until nothing waits; return how many studies."""
        if not self._fetching_studies.acquire(blocking=False):
            return 0
        try:
            count = 0
            while self._fetcher.fetch_next("watch", "reconcile", PURPOSE, requests.PURPOSE) is not None:
                count += 1
            return count
        finally:
            self._fetching_studies.release()

    # -- the end of images ---------------------------------------------------------------------------------------------

    def retire_images(self) -> int:
        """Remove received images that are old enough; return of how many studies."""
        gone, kept = self._retiring.run()
        if gone or kept:
            logger.info(
                "images of %d studies were removed by retention; %d stay, not listed by the archive", gone, kept
            )
        return gone

    # -- workitems ----------------------------------------------------------------------------------------------------

    def perform(self, name: str) -> int | None:
        """Claim workitems of a manager and tell it how they fare; return how many are new, None where it is away."""
        return self._performer.look(name)

    # -- the archive's counts -----------------------------------------------------------------------------------------

    def count_waiting(self) -> int:
        """Ask the archive for what it has of studies whose senders seem to be through; return how many were asked."""
        name = self._settings.arrival.archive
        if name is None:
            return 0
        with self._store.read() as connection:
            waiting = connection.execute(
                select(studies.c.study_uid, studies.c.arrival).where(studies.c.due_at.is_not(None))
            ).all()
        now = time.monotonic()
        known = {row.study_uid for row in waiting}
        self._asked = {uid: at for uid, at in self._asked.items() if uid in known}
        due = [
            row.study_uid
            for row in waiting
            if _through(row.arrival.get("state") or {})
            and now - self._asked.get(row.study_uid, float("-inf")) >= self._settings.arrival.archive_ask_seconds
        ]
        for study_uid in due:
            self._asked[study_uid] = now
            self._count(name, study_uid)
        return len(due)

    def _count(self, name: str, study_uid: str) -> None:
        try:
            with view_of(self._settings, name) as view:
                counts = view.count_series(study_uid)
        except PeerError as error:
            logger.warning("the archive cannot be asked for counts: %s", error)
            return
        with self._store.write() as connection:
            ours = set(
                connection.execute(select(objects.c.series_uid).where(objects.c.study_uid == study_uid)).scalars()
            )
            # What is no image may be somebody else's report on the study: it is not waited for.
            named = {
                f"{OPTIONAL if modality in NO_IMAGES else ''}{series}": number
                for series, (modality, number) in counts.items()
                if series not in ours and number
            }
            if named:
                statement = Statement(Source.ARCHIVE, name, study_uid, None, named)
                evidence.state(connection, time.time(), statement)
        ring(self._bells, SCHEDULER)

    # -- commitment ---------------------------------------------------------------------------------------------------

    def answer_commitments(self) -> int:
        """Answer requests whose instances the archive has, or has not got in time; return how many were answered."""
        name = self._settings.evidence.commitment_archive
        if not self._settings.evidence.answer_commitment or name is None:
            return 0
        with self._store.read() as connection:
            waiting = commitment_requests.unanswered(connection)
        answered = 0
        for request in waiting:
            try:
                answered += self._answer(request, name)
            except PeerError as error:
                logger.warning("a commitment request waits: %s", error)
                with self._store.write() as connection:
                    commitment_requests.put_off(connection, request.transaction_uid, error.message)
        return answered

    def _answer(self, request: Any, archive: str) -> bool:
        references = [Reference(*each) for each in request.named]
        there = self._at_archive([each.sop_instance_uid for each in references], archive)
        committed = [each for each in references if each.sop_instance_uid in there]
        failed = [each for each in references if each.sop_instance_uid not in there]
        if failed and time.time() < request.due_at:
            return False
        where = self._settings.evidence.where(request.calling_ae_title)
        if where is None:
            return False
        if failed:
            missing = [(each, NOT_MENTIONED) for each in failed]
            content, kind = failure_information(request.transaction_uid, committed, missing), SOME_FAILED
        else:
            content, kind = information(request.transaction_uid, committed), ALL_COMMITTED
        peer = Peer(
            ae_title=where.ae_title,
            host=where.host,
            port=where.port,
            calling_ae_title=self._settings.node.ae_title,
        )
        with ClientAssociation(peer, [Proposal(COMMITMENT_SOP_CLASS, as_provider=True)]) as association:
            send_answer(association, content, kind)
        with self._store.write() as connection:
            commitment_requests.answered(
                connection, time.time(), request.transaction_uid, committed=len(committed), failed=len(failed)
            )
        return True

    def _at_archive(self, uids: list[str], archive: str) -> set[str]:
        """Those instances the archive itself lists. What never came here has no series to ask by, and is not."""
        with self._store.read() as connection:
            known = evidence.studies_of_instances(connection, uids)
        by_series: dict[tuple[str, str], list[str]] = {}
        for uid, (study_uid, series_uid) in known.items():
            by_series.setdefault((study_uid, series_uid), []).append(uid)
        peer = Peer.of(self._settings.destination[archive], self._settings.node.ae_title)
        found: set[str] = set()
        with ClientAssociation(peer, [FIND_PROPOSAL]) as association:
            for (study_uid, series_uid), wanted in by_series.items():
                found |= find_instances(
                    association, study_uid=study_uid, series_uid=series_uid, sop_instance_uids=wanted
                )
        return found


def _through(state: dict[str, Any]) -> bool:
    """Whether a stored arrival state waits with nobody sending."""
    return (
        state.get("phase") in ("waiting", "provisional") and not state.get("open") and state.get("last_at") is not None
    )
