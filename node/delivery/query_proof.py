"""Proof that a DICOMweb destination has what it was sent: it lists the instance (QIDO-RS, PS3.18 10.6)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from node.archive.engine import Store
from node.delivery import outbox
from node.delivery.outbox import Delivery
from node.delivery.proofs import Unproven, ask_later
from node.dicomweb import qido
from node.dicomweb.web_client import WebClient
from node.errors import PeerBusy, PeerError, PeerRejectedObject, PeerUnreachable
from node.settings import DestinationSection

logger = logging.getLogger(__name__)

NOTHING_ASKED = "no query is configured for the destination"
NOTHING_OFFERED = "the destination answers no query at instance level"
_BUSY_SECONDS = 60.0


class QueryProof:
    """What one DICOMweb destination is asked after it has stored.

    Parameters
    ----------
    store : Store
    name : str
        Name of the destination.
    study_of : callable
        Study Instance UID under which the destination has a delivery's object; may raise SpoolDamaged.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        destination: DestinationSection,
        study_of: Callable[[Delivery], str],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._name = name
        self._destination = destination
        self._study_of = study_of
        self._clock = clock

    def find(self, client: WebClient, deliveries: Sequence[Delivery]) -> frozenset[str]:
        """SOP Instance UIDs the destination lists, of these deliveries; errors as :func:`qido.find_instances`."""
        found: frozenset[str] = frozenset()
        by_series: dict[tuple[str, str], list[str]] = {}
        for each in deliveries:
            by_series.setdefault((self._study_of(each), each.series_uid), []).append(each.sop_instance_uid)
        for (study_uid, series_uid), uids in by_series.items():
            found |= qido.find_instances(client, study_uid=study_uid, series_uid=series_uid, sop_instance_uids=uids)
        return found

    def settle_doubts(self, client: WebClient, doubtful: Sequence[Delivery]) -> list[Delivery]:
        """Of deliveries that had no answer, those the destination has: recorded as stored, and not sent again.

        Raises
        ------
        PeerUnreachable, NoResponse
            It cannot be asked; nothing was sent.
        """
        if not doubtful:
            return []
        try:
            listed = self.find(client, doubtful)
        except PeerUnreachable:
            raise
        except (PeerBusy, PeerRejectedObject) as error:
            logger.warning("%s: could not be asked for what had no answer, it is sent again: %s", self._name, error)
            return []
        there = [delivery for delivery in doubtful if delivery.sop_instance_uid in listed]
        with self._store.write() as connection:
            for delivery in there:
                outbox.found(connection, self._clock(), delivery.id)
        return there

    def prove(self, client: WebClient, unproven: Sequence[Unproven]) -> None:
        """Ask for stored deliveries, and record the answer.

        Raises
        ------
        PeerUnreachable, NoResponse
            It cannot be asked.
        SpoolDamaged
            A local copy is gone or unreadable.
        """
        if not unproven:
            return
        ids = [each.delivery.id for each in unproven]
        if not self._destination.verify:
            self._unverifiable(ids, NOTHING_ASKED)
            return
        try:
            listed = self.find(client, [each.delivery for each in unproven])
        except PeerUnreachable:
            raise
        except PeerRejectedObject as error:
            logger.warning("%s: %s", self._name, error)
            self._unverifiable(ids, NOTHING_OFFERED)
            return
        except PeerBusy as error:
            self._later(ids, error)
            return
        self._record(unproven, listed)

    def _record(self, unproven: Sequence[Unproven], listed: frozenset[str]) -> None:
        there = [each.delivery.id for each in unproven if each.delivery.sop_instance_uid in listed]
        missing = [each.delivery.id for each in unproven if each.delivery.sop_instance_uid not in listed]
        limit = self._destination.maximum_attempts
        with self._store.write() as connection:
            outbox.verified(connection, self._clock(), there)
            again = outbox.not_listed(connection, self._clock(), missing, maximum_attempts=limit)
        if again:
            logger.error("%s: does not list %d object(s) it stored; they are sent again", self._name, len(again))

    def _unverifiable(self, ids: Sequence[int], why: str) -> None:
        with self._store.write() as connection:
            outbox.mark_unverifiable(connection, self._clock(), ids, why)

    def _later(self, ids: Sequence[int], error: PeerError) -> None:
        logger.warning("%s: could not be asked what it has: %s", self._name, error)
        with self._store.write() as connection:
            ask_later(connection, ids, ask_at=self._clock() + _BUSY_SECONDS)
