"""Proof that a destination has what it was sent: by commitment, else by looking, else none, and said so."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from node.archive.engine import Store
from node.delivery import outbox
from node.delivery.commitment_request import Commitment
from node.delivery.delivery_rows import Delivery
from node.delivery.proofs import Unproven, ask_later
from node.dicom.association import ClientAssociation, Proposal
from node.dicom.query import FIND_PROPOSAL, FIND_SOP_CLASS, find_instances
from node.errors import NoResponse, PeerBusy
from node.settings import DestinationSection

logger = logging.getLogger(__name__)

NOTHING_OFFERED = "the destination offers neither commitment nor query at instance level"
NOTHING_ASKED = "neither commitment nor query is configured for the destination"
NOT_ANSWERED = "the destination answers no commitment request, and offers no query at instance level"
_BUSY_SECONDS = 60.0
_NO_QUERY_SECONDS = 900.0


class Proof:
    """What one destination is asked after it has stored. Safe to share between the destination's couriers.

    Parameters
    ----------
    store : Store
    name : str
        Name of the destination.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self, store: Store, name: str, destination: DestinationSection, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._name = name
        self._destination = destination
        self._clock = clock
        self._no_query_before = 0.0
        self._commitment = Commitment(store, name, destination, clock=clock)

    @property
    def proposals(self) -> list[Proposal]:
        """Contexts to propose beside those of the objects. Query also tells whether what is in doubt has arrived."""
        return [*self._commitment.proposals, FIND_PROPOSAL]

    @property
    def handlers(self) -> list[tuple[Any, Any]]:
        """Handlers for the association."""
        return self._commitment.handlers

    def prove(
        self, association: ClientAssociation | None, unproven: Sequence[Unproven], *, repeated: bool = False
    ) -> None:
        """Ask for stored deliveries.

        Parameters
        ----------
        association : ClientAssociation or None
            None where the destination accepted none of :attr:`proposals`.
        repeated : bool
            Earlier questions about them were not answered.
        """
        if not unproven:
            return
        limit = self._destination.commitment_attempts
        wanted = self._commitment.due(self._clock()) and any(each.asked < limit for each in unproven)
        to_ask: list[Delivery] = []
        if wanted and self._commitment.offered(association):
            to_ask = [each.delivery for each in unproven if each.asked < limit]
        asked = {delivery.id for delivery in to_ask}
        self._look(association, [each for each in unproven if each.delivery.id not in asked])
        if to_ask and association is not None:
            self._commitment.ask(association, to_ask, repeated=repeated)

    def settle_doubts(self, association: ClientAssociation, doubtful: Sequence[Delivery]) -> list[Delivery]:
        """Of deliveries that had no answer, those the destination has: recorded as stored, and not sent again.

        Raises
        ------
        NoResponse
            The association is lost; nothing was sent over it.
        """
        if not doubtful or self._clock() < self._no_query_before or not association.accepts(FIND_SOP_CLASS):
            return []
        try:
            listed = _listed(association, doubtful)
        except NoResponse:
            # A destination that dies of the question would never get what is in doubt.
            self._no_query_before = self._clock() + _NO_QUERY_SECONDS
            raise
        except PeerBusy as error:
            logger.warning("%s: could not be asked for what had no answer, it is sent again: %s", self._name, error)
            return []
        there = [delivery for delivery in doubtful if delivery.sop_instance_uid in listed]
        with self._store.write() as connection:
            for delivery in there:
                outbox.found(connection, self._clock(), delivery.id)
        return there

    def _look(self, association: ClientAssociation | None, unproven: Sequence[Unproven]) -> None:
        """Look whether the destination lists objects for which no commitment is to be had."""
        if not unproven:
            return
        ids = [each.delivery.id for each in unproven]
        if not self._destination.verify:
            why = NOTHING_OFFERED if self._destination.commitment else NOTHING_ASKED
            return self._unverifiable(ids, why)
        if association is None or not association.accepts(FIND_SOP_CLASS):
            return self._unverifiable(ids, NOT_ANSWERED if any(each.asked for each in unproven) else NOTHING_OFFERED)
        try:
            listed = _listed(association, [each.delivery for each in unproven])
        except PeerBusy as error:
            logger.warning("%s: %s", self._name, error)
            with self._store.write() as connection:
                ask_later(connection, ids, ask_at=self._clock() + _BUSY_SECONDS)
            return None
        there = {each.delivery.id for each in unproven if each.delivery.sop_instance_uid in listed}
        attempts = self._destination.maximum_attempts
        with self._store.write() as connection:
            outbox.verified(connection, self._clock(), there)
            missing = set(ids) - there
            again = outbox.not_listed(connection, self._clock(), missing, maximum_attempts=attempts)
        if again:
            logger.error("%s: answered with success for %d objects that it does not list", self._name, len(again))
        return None

    def _unverifiable(self, delivery_ids: Sequence[int], why: str) -> None:
        with self._store.write() as connection:
            outbox.mark_unverifiable(connection, self._clock(), delivery_ids, why)
        logger.info("%s: %d deliveries are stored, unverifiable: %s", self._name, len(delivery_ids), why)


def _listed(association: ClientAssociation, wanted: Sequence[Delivery]) -> set[str]:
    """SOP Instance UIDs that the destination lists, asked for series by series."""
    series: dict[tuple[str, str], list[str]] = defaultdict(list)
    for delivery in wanted:
        series[delivery.study_uid, delivery.series_uid].append(delivery.sop_instance_uid)
    found: set[str] = set()
    for (study_uid, series_uid), uids in series.items():
        found |= find_instances(association, study_uid=study_uid, series_uid=series_uid, sop_instance_uids=uids)
    return found
