"""Proof that a DICOMweb destination has what it was sent: it lists the instance (QIDO-RS, PS3.18 10.6)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from node.archive import ledger
from node.archive.engine import Store
from node.delivery import outbox
from node.delivery.delivery_rows import locked, mark_outdated, record, set_values, superseded
from node.delivery.outbox import Delivery, DeliveryState
from node.dicomweb import qido
from node.dicomweb.web_client import WebClient

logger = logging.getLogger(__name__)

_BATCH = 500
# Archives index what they have stored a moment later: asked soon, then ever more seldom.
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 300.0


class QueryProof:
    """Asks one destination whether it lists what it stored.

    Parameters
    ----------
    store : Store
    name : str
        Name of the destination.
    study_of : callable
        Study Instance UID under which the destination has a delivery's object; may raise SpoolDamaged.
    wanted : bool
        ``commitment`` of the destination: False leaves deliveries ``stored``.
    """

    def __init__(self, store: Store, name: str, study_of: Callable[[Delivery], str], *, wanted: bool) -> None:
        self._store = store
        self._study_of = study_of
        self._name = name
        self._wanted = wanted
        self._tries: dict[int, int] = {}
        self._not_before: dict[int, float] = {}

    def due(self, now: float) -> list[Delivery]:
        """Stored deliveries that may be asked for."""
        if not self._wanted:
            return []
        with self._store.read() as connection:
            stored = outbox.awaiting_commitment(connection, self._name, _BATCH)
        known = {delivery.id for delivery in stored}
        self._tries = {each: count for each, count in self._tries.items() if each in known}
        self._not_before = {each: at for each, at in self._not_before.items() if each in known}
        return [delivery for delivery in stored if self._not_before.get(delivery.id, 0.0) <= now]

    def waits(self, now: float) -> list[float]:
        """Seconds until each of those that were asked for in vain is due again."""
        return [at - now for at in self._not_before.values()]

    def find(self, client: WebClient, deliveries: Sequence[Delivery]) -> frozenset[str]:
        """SOP Instance UIDs the destination lists, of these deliveries; errors as :func:`qido.find_instances`."""
        found: frozenset[str] = frozenset()
        by_series: dict[tuple[str, str], list[str]] = {}
        for each in deliveries:
            by_series.setdefault((self._study_of(each), each.series_uid), []).append(each.sop_instance_uid)
        for (study_uid, series_uid), uids in by_series.items():
            found |= qido.find_instances(client, study_uid=study_uid, series_uid=series_uid, sop_instance_uids=uids)
        return found

    def ask(self, client: WebClient, deliveries: Sequence[Delivery]) -> None:
        """Ask, and record what is proven; the rest is asked for again later."""
        listed = self.find(client, deliveries)
        proven = [delivery for delivery in deliveries if delivery.sop_instance_uid in listed]
        with self._store.write() as connection:
            for delivery in proven:
                _record_proof(connection, time.time(), delivery)
        self.put_off([delivery for delivery in deliveries if delivery.sop_instance_uid not in listed])

    def put_off(self, deliveries: Sequence[Delivery]) -> None:
        """Ask for these later."""
        now = time.time()
        for delivery in deliveries:
            tries = self._tries[delivery.id] = self._tries.get(delivery.id, 0) + 1
            pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(tries, 20), _LONGEST_PAUSE_SECONDS)
            self._not_before[delivery.id] = now + pause
            if tries == 5:
                logger.warning("%s: does not list %s, which it stored", self._name, delivery.sop_instance_uid)


def _record_proof(connection: Connection, now: float, delivery: Delivery) -> None:
    row = locked(connection, delivery.id)
    if row.state != DeliveryState.STORED:
        return
    set_values(connection, row.id, state=str(DeliveryState.COMMITTED), proven_at=now, message=None)
    record(connection, now, ledger.Kind.DELIVERY_LISTED, row, how="QIDO-RS")
    if superseded(connection, row.job_id):
        mark_outdated(connection, now, row)
