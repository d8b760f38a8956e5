"""Holds what an archive has against what this node has and has answered; and watches an archive for new studies."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, true

from node.archive import archive_studies, index, orders
from node.archive.engine import Store
from node.archive.ledger import Kind, record
from node.archive.tables import deliveries, instances, jobs, objects
from node.archive_view import ArchiveView
from node.dicom.archive_views import view_of
from node.errors import PeerError
from node.jobs import queue
from node.listed import Answer, Finding, Known, ListedStudy, Run, Verdict, images_of, judge, wanted
from node.listing import Listing
from node.orders import Order
from node.runs import priority_of
from node.settings import RuleSection, Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A study that something is wrong with."""

    study: ListedStudy
    verdict: Verdict
    modalities: tuple[str, ...]
    priority: queue.Priority


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a reconciliation found, the most urgent first.

    Attributes
    ----------
    listed : int
        Studies the archive has of that time.
    wanted : int
        Those of them that a rule may want.
    truncated : int
        Spans of time of which the archive had more than could be asked for: the answer is not whole.
    """

    archive: str
    since: float
    listed: int
    wanted: int
    truncated: int
    found: tuple[Found, ...]


class Reconciler:
    """Asks archives for one node.

    Parameters
    ----------
    settings : Settings
    store : Store
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store

    def reconcile(self, archive: str, since: float, *, fetch: bool, insist: bool = True) -> Reconciled:
        """Look at every study of a time that a rule may want.

        Parameters
        ----------
        archive : str
            Name of a destination or a web source.
        since : float
            Seconds since the epoch. Studies that began up to ``margin_hours`` before and went on are looked at, too.
        fetch : bool
            Queue what is missing, STAT first.
        insist : bool
            Also what was fetched already and has not grown since: an archive may list what it cannot send.

        Raises
        ------
        PeerError
            The archive could not be asked.
        """
        section, now = self._settings.reconcile, time.time()
        first = datetime.fromtimestamp(since) - timedelta(hours=section.margin_hours)
        with view_of(self._settings, archive) as view:
            # A modality's clock may be ahead, and so may its time zone.
            listing = self._list(view, first, datetime.fromtimestamp(now) + timedelta(days=1), [])
            looked = [self._look(view, archive, study, now) for study in listing.studies]
        relevant = [each for each in looked if each is not None]
        found = sorted(
            (each for each in relevant if each.verdict.finding is not None),
            key=lambda each: (each.priority, each.study.starts_at or 0.0, each.study.study_uid),
        )
        with self._store.write() as connection:
            for each in relevant:
                row = archive_studies.see(connection, now, archive, each.study)
                archive_studies.found(connection, now, row, each.verdict.finding, each.verdict.words)
                grown = row.compared is None or row.compared != each.study.instances
                if fetch and each.verdict.finding is Finding.MISSING and (insist or grown):
                    archive_studies.want(
                        connection,
                        now,
                        row,
                        purpose="reconcile",
                        priority=int(each.priority),
                        method=section.method,
                    )
        return Reconciled(archive, since, len(listing.studies), len(relevant), listing.truncated, tuple(found))

    def backfill(
        self, archive: str, since: float, until: float, *, modalities: Sequence[str] = ()
    ) -> tuple[int, int, int]:
        """Queue every study of a time that a rule may want and that is not here; what was queued before stays as it is.

        Returns
        -------
        int, int, int
            Studies listed, queued now, and spans of time of which the archive had more than could be asked for.

        Raises
        ------
        PeerError
            The archive could not be asked.
        """
        section, now = self._settings.reconcile, time.time()
        with view_of(self._settings, archive) as view:
            listing = self._list(view, datetime.fromtimestamp(since), datetime.fromtimestamp(until), list(modalities))
        queued = 0
        for study in listing.studies:
            if study.starts_at is not None and study.starts_at > until:
                continue
            with self._store.write() as connection:
                ordered = _orders(connection, study)
                known = self._known(connection, study.study_uid)
                if known.images or not wanted(self._settings.rule, study.modalities, ordered):
                    continue
                row = archive_studies.see(connection, now, archive, study)
                queued += archive_studies.want(
                    connection,
                    now,
                    row,
                    purpose="backfill",
                    priority=int(queue.Priority.OFF_PEAK),
                    method=section.method,
                    again=False,
                )
        return len(listing.studies), queued, listing.truncated

    def watch(self, archive: str) -> int | None:
        """Ask an archive for new studies, and queue those that a rule may want once they have stopped growing.

        Returns
        -------
        int or None
            Studies queued; None where the archive could not be asked.
        """
        section, now = self._settings.watch[archive], time.time()
        first = datetime.fromtimestamp(now) - timedelta(hours=section.hours_back)
        queued = 0
        try:
            with view_of(self._settings, archive) as view:
                last = datetime.fromtimestamp(now) + timedelta(days=1)
                listing = view.studies_between(
                    first, last, modalities=section.modalities, limit=section.maximum_studies
                )
                for study in listing.studies:
                    queued += self._watch_one(view, archive, study, now)
        except PeerError as error:
            logger.warning("archive %s cannot be watched: %s", archive, error)
            return None
        if listing.truncated:
            logger.warning("archive %s has more studies in ten minutes than maximum_studies", archive)
        return queued

    def _watch_one(self, view: ArchiveView, archive: str, study: ListedStudy, now: float) -> bool:
        section = self._settings.watch[archive]
        with self._store.read() as connection:
            ordered = _orders(connection, study)
        if not wanted(self._settings.rule, study.modalities, ordered):
            return False
        there: dict[str, tuple[str, int]] | None = None
        if study.instances is None:
            # The total at study level is optional: here only the series tell whether the study still grows.
            there = view.count_series(study.study_uid)
            study = replace(study, instances=sum(number for _, number in there.values()))
        with self._store.write() as connection:
            row = archive_studies.see(connection, now, archive, study)
        settled = now - row.changed_at >= section.settle_seconds
        if not settled or row.compared == study.instances:
            return False
        there = there or view.count_series(study.study_uid)
        modalities = tuple(sorted({modality for modality, _ in there.values() if modality}))
        with self._store.write() as connection:
            known, ours = self._known(connection, study.study_uid), _ours(connection, study.study_uid)
            archive_studies.compared(connection, row.id, study.instances)
            images = images_of(there, ours)
            missing = sum(max(0, number - known.images.get(series, 0)) for series, number in images.items())
            rules = wanted(self._settings.rule, modalities, ordered)
            if not missing or not rules:
                return False
            if not known.images:
                record(
                    connection,
                    now,
                    Kind.STUDY_SEEN,
                    study_uid=study.study_uid,
                    archive=archive,
                    instances=sum(images.values()),
                    series=len(images),
                )
            priority = int(_priority(rules, ordered))
            return archive_studies.want(connection, now, row, purpose="watch", priority=priority, method=section.method)

    def _look(self, view: ArchiveView, archive: str, study: ListedStudy, now: float) -> Found | None:
        """One study; None where no rule may want it."""
        section = self._settings.reconcile
        with self._store.read() as connection:
            ordered = _orders(connection, study)
        if not wanted(self._settings.rule, study.modalities, ordered):
            return None
        there = view.count_series(study.study_uid)
        modalities = study.modalities or tuple(sorted({modality for modality, _ in there.values() if modality}))
        rules = wanted(self._settings.rule, modalities, ordered)
        if not rules:
            return None
        with self._store.read() as connection:
            known, ours = self._known(connection, study.study_uid), _ours(connection, study.study_uid)
        verdict = judge(there, known, archive=archive, ours=ours, now=now, late_seconds=section.late_seconds)
        newest = max((at for at in (study.starts_at, known.last_at) if at is not None and at <= now), default=None)
        if verdict.finding is Finding.MISSING and newest is not None and now - newest < section.settle_seconds:
            verdict = Verdict(None, "it may still be coming")
        return Found(study, verdict, modalities, _priority(rules, ordered))

    def _known(self, connection: Connection, study_uid: str) -> Known:
        row = index.study(connection, study_uid)
        images: dict[str, int] = {}
        chosen = (instances.c.study_uid == study_uid) & (instances.c.active == true()) & ~instances.c.ours
        for series in connection.execute(select(instances.c.series_uid).where(chosen)).scalars():
            images[series] = images.get(series, 0) + 1
        if row is None:
            return Known(images)
        return Known(images, row.state, row.last_at, row.held_reason or "", tuple(_runs(connection, study_uid)))

    def _list(self, view: ArchiveView, first: datetime, last: datetime, modalities: Sequence[str]) -> Listing:
        limit = self._settings.reconcile.maximum_studies
        return view.studies_between(first, last, modalities=modalities, limit=limit)


def _priority(rules: Sequence[RuleSection], ordered: Sequence[Order]) -> queue.Priority:
    return min((priority_of(rule, ordered) for rule in rules), default=queue.Priority.ROUTINE)


def _orders(connection: Connection, study: ListedStudy) -> list[Order]:
    rows = orders.about(connection, study_uid=study.study_uid, accession_numbers=[study.accession_number])
    return [Order.from_dict(row.content) for row in rows]


def _ours(connection: Connection, study_uid: str) -> frozenset[str]:
    made = select(objects.c.series_uid).where(objects.c.study_uid == study_uid)
    return frozenset(connection.execute(made).scalars())


def _runs(connection: Connection, study_uid: str) -> list[Run]:
    """The latest run of each rule that owes an answer."""
    owed = jobs.c.shadow.is_(False) & jobs.c.superseded_at.is_(None) & (jobs.c.state != queue.JobState.CANCELLED)
    latest: dict[str, Any] = {}
    for row in connection.execute(select(jobs).where(jobs.c.study_uid == study_uid, owed).order_by(jobs.c.id)):
        latest[row.rule] = row
    return [
        Run(row.id, row.rule, row.state, row.created_at, row.error_code or "", _answers(connection, row.id))
        for row in latest.values()
    ]


def _answers(connection: Connection, job_id: int) -> tuple[Answer, ...]:
    found = (
        select(
            deliveries.c.destination,
            deliveries.c.state,
            objects.c.series_uid,
            deliveries.c.created_at,
            deliveries.c.sent_at,
        )
        .join(objects, objects.c.sop_instance_uid == deliveries.c.sop_instance_uid)
        .where(objects.c.job_id == job_id)
        .order_by(deliveries.c.id)
    )
    return tuple(Answer(*row) for row in connection.execute(found))
