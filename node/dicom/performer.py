"""Performs workitems of others: searches, claims, hears how the runs fare, and tells the manager (IHE AIW-I, pull).

A claimed workitem is an order like one of a worklist, and its input a list of what belongs to the study; rules that
match on its code fire. Each piece of work here is one look: what a manager did not answer is said again at the next.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydicom.uid import generate_uid

from node.archive import archive_studies, evidence, workitems
from node.archive import orders as stored
from node.archive.engine import Store
from node.archive.evidence import Statement
from node.archive.workitems import ClaimState
from node.arrival import Source
from node.dicom.workitem_data import performed, progress, read_workitem
from node.dicom.workitem_scu import WorkitemScu, peer_of
from node.dicomweb.web_client import WebPeer
from node.dicomweb.workitems import WorkitemWeb
from node.doorbell import SCHEDULER, ring
from node.errors import PeerError
from node.jobs.queue import Priority
from node.listed import ListedStudy
from node.orders import Code
from node.routing.conditions import order_checks
from node.settings import Settings, WorkitemsSection
from node.status import run_folder
from node.workitem import StepState, Verdict, Workitem, judge, why_not_ours
from node.workitem_manager import Reply, WorkitemManager

logger = logging.getLogger(__name__)

PURPOSE = "workitem"
_SUBSCRIPTION_SECONDS = 3600.0
_PRIORITIES = {"HIGH": Priority.URGENT, "STAT": Priority.STAT}


class Performer:
    """One node's work for its managers.

    Parameters
    ----------
    settings : Settings
    store : Store
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._bells = run_folder(settings.data_dir)
        self._passed_over: dict[tuple[str, str], str] = {}
        self._subscribed: dict[str, float] = {}
        self._looking = {name: threading.Lock() for name in settings.workitems}

    def look(self, name: str) -> int | None:
        """Tell a manager how its workitems fare, and claim new ones; return how many, None where it is away.

        One look at a manager at a time: a second call waits for the first.
        """
        with self._looking[name]:
            return self._look(name, self._settings.workitems[name])

    def _look(self, name: str, section: WorkitemsSection) -> int | None:
        try:
            with self._manager(section) as manager:
                if isinstance(manager, WorkitemScu) and section.events:
                    self._subscribe(manager, name)
                self._follow(manager, name, section)
                return self._claim_new(manager, name, section)
        except PeerError as error:
            logger.warning("workitems of %s: %s", name, error)
            return None

    def _manager(self, section: WorkitemsSection) -> WorkitemManager:
        if section.url:
            return WorkitemWeb(WebPeer.of(section.service))
        return WorkitemScu(peer_of(section, self._settings.node.ae_title))

    def _subscribe(self, manager: WorkitemScu, name: str) -> None:
        """Ask for events now and then: a manager that was restarted may have forgotten who wants them."""
        if time.monotonic() < self._subscribed.get(name, 0.0):
            return
        first = name not in self._subscribed
        self._subscribed[name] = time.monotonic() + _SUBSCRIPTION_SECONDS
        if not manager.subscribe(self._settings.node.ae_title) and first:
            logger.info("no events of workitems from %s: it is asked every interval, cancellations are not heard", name)

    # -- new ones -----------------------------------------------------------------------------------------------------

    def _claim_new(self, manager: WorkitemManager, name: str, section: WorkitemsSection) -> int:
        with self._store.read() as connection:
            room = section.maximum_claimed - workitems.count_open(connection, name)
        if room <= 0:
            return 0
        claimed = 0
        for found in manager.search(section.maximum_claimed * 5):
            workitem = read_workitem(found)
            if claimed < room and self._is_wanted(name, section, workitem):
                claimed += self._claim(manager, name, section, workitem)
        return claimed

    def _is_wanted(self, name: str, section: WorkitemsSection, workitem: Workitem) -> bool:
        why = why_not_ours(workitem, section.station_names, unassigned=section.unassigned)
        if why is None and not self._rules_for(workitem):
            why = f"no rule matches an order with code {workitem.code.value or '(none)'}"
        if why is not None and self._passed_over.get((name, workitem.uid)) != why:
            logger.info("workitem %s of %s is not taken: %s", workitem.uid, name, why)
            self._passed_over[name, workitem.uid] = why
        return why is None

    def _rules_for(self, workitem: Workitem) -> list[str]:
        """Rules that ask for an order, and for one like this."""
        return [
            rule.name
            for rule in self._settings.rule
            if rule.match.order is not None
            and all(held for held, _ in order_checks(rule.match.order, (workitem.order,)))
        ]

    def _claim(self, manager: WorkitemManager, name: str, section: WorkitemsSection, workitem: Workitem) -> bool:
        with self._store.write() as connection:
            new = workitems.begin(
                connection, time.time(), name, workitem, str(generate_uid(prefix=None)), self._rules_for(workitem)
            )
        if not new:
            return False
        with self._store.read() as connection:
            row = next(each for each in workitems.open_claims(connection, name) if each.uid == workitem.uid)
        return self._settle_claim(manager, section, row)

    def _settle_claim(self, manager: WorkitemManager, section: WorkitemsSection, row: Any) -> bool:
        """Claim, or find out whether a claim without an answer came through: only its owner may update a workitem."""
        reply = manager.change_state(row.uid, row.transaction_uid, StepState.IN_PROGRESS)
        if reply is Reply.TAKEN:
            verdict = Verdict(StepState.IN_PROGRESS, 0, "claimed")
            reply = manager.update(row.uid, row.transaction_uid, progress(verdict, datetime.now()))
        if reply is not Reply.DONE:
            self._lose(row, reply)
            return False
        found = manager.retrieve(row.uid)
        workitem = read_workitem(found, row.uid) if found is not None else None
        with self._store.write() as connection:
            now = time.time()
            workitems.claimed(connection, now, row)
            if workitem is not None:
                self._enter(connection, now, row.source, section, workitem)
        ring(self._bells, SCHEDULER)
        return True

    def _enter(self, connection: Any, now: float, name: str, section: WorkitemsSection, workitem: Workitem) -> None:
        """Make the workitem an order, its input evidence, and have fetched what is not here."""
        stored.take(connection, now, name, [workitem.order])
        for study_uid, series in workitem.inputs.items():
            named = {uid: list(instances) for uid, instances in series.items() if uid and instances}
            statement = Statement(Source.WORKITEM, workitem.uid, study_uid, None, named, section.ae_title or "")
            if named:
                evidence.state(connection, now, statement)
            if section.archive is not None and not _all_here(connection, named):
                row = archive_studies.see(connection, now, section.archive, ListedStudy(study_uid))
                priority = _PRIORITIES.get(workitem.order.priority, Priority.ROUTINE)
                archive_studies.want(
                    connection, now, row, purpose=PURPOSE, priority=int(priority), method=section.method
                )

    # -- claimed ones -------------------------------------------------------------------------------------------------

    def _follow(self, manager: WorkitemManager, name: str, section: WorkitemsSection) -> None:
        with self._store.read() as connection:
            rows = workitems.open_claims(connection, name)
        for row in rows:
            if row.state == ClaimState.CLAIMING:
                self._settle_claim(manager, section, row)
            else:
                self._tell(manager, section, row)

    def _tell(self, manager: WorkitemManager, section: WorkitemsSection, row: Any) -> None:
        titles = {name: each.ae_title for name, each in self._settings.destination.items()}
        with self._store.read() as connection:
            standing = workitems.standing(connection, time.time(), row, titles, section.archive or "")
        verdict = judge(standing, section.patience_seconds)
        if verdict.state is StepState.IN_PROGRESS:
            if verdict.words != row.told:
                self._update(manager, row, verdict, progress(verdict, datetime.now()))
            return
        if row.state == ClaimState.CLAIMED:
            code = Code(**row.content["code"])
            begun = datetime.fromtimestamp(row.claimed_at)
            outputs = [each for each in standing.outputs if each.state in ("stored", "committed")]
            content = performed(verdict, code, self._station(section), outputs, begun, datetime.now())
            if not self._update(manager, row, verdict, content):
                return
            with self._store.write() as connection:
                workitems.ending(connection, row)
        reply = manager.change_state(row.uid, row.transaction_uid, verdict.state)
        if reply in (Reply.DONE, Reply.ENDED):
            with self._store.write() as connection:
                workitems.ended(connection, time.time(), row, verdict.state, verdict.words)
        else:
            self._lose(row, reply)

    def _update(self, manager: WorkitemManager, row: Any, verdict: Verdict, content: Any) -> bool:
        reply = manager.update(row.uid, row.transaction_uid, content)
        if reply is Reply.DONE:
            with self._store.write() as connection:
                workitems.told(connection, row, verdict.words)
            return True
        self._lose(row, reply)
        return False

    def _lose(self, row: Any, reply: Reply) -> None:
        words = {
            Reply.TAKEN: "another performer has it",
            Reply.ENDED: "it was ended by somebody else",
            Reply.UNKNOWN: "its manager does not know it any more",
        }.get(reply, f"its manager answered: {reply}")
        logger.warning("workitem %s of %s: %s", row.uid, row.source, words)
        with self._store.write() as connection:
            workitems.lost(connection, time.time(), row, words)

    def _station(self, section: WorkitemsSection) -> Code:
        name = section.station_names[0] if section.station_names else self._settings.node.ae_title
        return Code(name, "L", self._settings.node.name)


def _all_here(connection: Any, named: dict[str, list[str]]) -> bool:
    wanted: Sequence[str] = [uid for instances in named.values() for uid in instances]
    return bool(wanted) and len(evidence.studies_of_instances(connection, wanted)) == len(set(wanted))
