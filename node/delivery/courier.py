"""Brings objects to one destination: claim, send, record, ask for proof; back off when it cannot."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from node.archive.engine import Store
from node.delivery.destination_courier import NOT_ITS_TURN, POLL_SECONDS, STOPPING, DestinationCourier
from node.delivery.gate import Gate
from node.delivery.outbox import Delivery
from node.delivery.proof import Proof
from node.delivery.proofs import Unproven
from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.storage_scu import ObjectFile, StoreReply, batches, proposals_of, send_object
from node.errors import (
    NoPresentationContext,
    NoResponse,
    PeerBusy,
    PeerRejectedObject,
    PeerUnreachable,
    SpoolDamaged,
    TranscodingFailed,
)
from node.settings import Settings

logger = logging.getLogger(__name__)

# An association is kept for more than one batch; proof is asked for at its end, which must not wait for long.
_OBJECTS_PER_ASSOCIATION = 256
_BUSY_LIMIT = 3


class Courier(DestinationCourier):
    """One thread of a DICOM destination.

    Parameters
    ----------
    settings, store, name, gate, clock
        As of :class:`DestinationCourier`.
    proof : Proof
        Shared by the destination's couriers.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        name: str,
        *,
        gate: Gate,
        proof: Proof,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(settings, store, name, gate=gate, clock=clock)
        self._peer = Peer.of(self._destination, settings.node.ae_title)
        self._proof = proof

    def _deliver(self, claimed: Sequence[Delivery]) -> None:
        left = list(claimed)
        while left:
            ready, left = self._ready(left), []
            for batch in batches(list(ready), reserved_contexts=len(self._proof.proposals), transcode=True):
                left += self._send_batch(batch, {file: ready[file] for file in batch})

    def _ready(self, claimed: Sequence[Delivery]) -> dict[ObjectFile, Delivery]:
        ready: dict[ObjectFile, Delivery] = {}
        for delivery in claimed:
            try:
                ready[self._verified(delivery)] = delivery
            except SpoolDamaged as error:
                self._give_up(delivery, error)
        return ready

    def _send_batch(self, batch: Sequence[ObjectFile], pending: dict[ObjectFile, Delivery]) -> list[Delivery]:
        """Send over one association, and what else comes meanwhile that fits into its contexts.

        ``pending`` loses what has been settled; the rest is settled at the end. Returned is what was claimed and does
        not fit.
        """
        left: list[Delivery] = []
        proposals = [*proposals_of(batch, transcode=True), *self._proof.proposals]
        try:
            with ClientAssociation(self._peer, proposals, handlers=self._proof.handlers) as association:
                self._reached()
                self._offer_alternatives(association, pending)
                stored = self._send_all(association, proposals, pending, left)
                self._proof.prove(association, [Unproven(delivery, 0) for delivery in stored])
        except PeerUnreachable as error:
            self._not_reached(error)
            for delivery in pending.values():
                self._try_later(delivery, error, counted=False)
        except NoPresentationContext as error:
            self._offer_alternatives(None, pending)
            for delivery in pending.values():
                self._give_up(delivery, error)
        except NoResponse as error:
            self._not_reached(error)
            # One object may be what ends the association: the others get their turn before it is tried again.
            for delivery in pending.values():
                self._give_back(delivery, NOT_ITS_TURN, 0.0)
        except PeerBusy:
            for delivery in pending.values():
                self._give_back(delivery, NOT_ITS_TURN, self._destination.retry_seconds)
        else:
            for delivery in pending.values():
                self._give_back(delivery, STOPPING, 0.0)
        return left

    def _offer_alternatives(self, association: ClientAssociation | None, pending: dict[ObjectFile, Delivery]) -> None:
        """Have another set made where the peer does not take an object of one; ``pending`` loses that whole set.

        Parameters
        ----------
        association : ClientAssociation or None
            None where not one context was accepted.
        """
        refused = [
            delivery
            for file, delivery in pending.items()
            if association is None
            or not any(
                association.accepts(each.abstract_syntax, syntax)
                for each in file.proposals(transcode=True)
                for syntax in each.transfer_syntaxes
            )
        ]
        if refused:
            self._drop(pending, self._other_sets(refused, pending.values()))

    @staticmethod
    def _drop(pending: dict[ObjectFile, Delivery], withdrawn: set[int]) -> None:
        for file, delivery in list(pending.items()):
            if delivery.job_id in withdrawn:
                del pending[file]

    def _send_all(
        self,
        association: ClientAssociation,
        proposals: Sequence[Proposal],
        pending: dict[ObjectFile, Delivery],
        left: list[Delivery],
    ) -> list[Delivery]:
        """Send what is pending and, over the same association, what comes after it; return what is stored.

        What was claimed and does not fit goes to ``left``. Raises as :meth:`_send_each`.
        """
        stored = self._send_each(association, pending)
        while not pending and not left and 0 < len(stored) < _OBJECTS_PER_ASSOCIATION and not self._stop.is_set():
            fitting, others = self._more(proposals)
            left.extend(others)
            if not fitting:
                break
            pending.update(fitting)
            stored += self._send_each(association, pending)
        return stored

    def _more(self, proposals: Sequence[Proposal]) -> tuple[dict[ObjectFile, Delivery], list[Delivery]]:
        """Claim more; return what fits into the association, and what does not."""
        now = self._clock()
        if self._gate.closed(now) is not None:
            return {}, []
        ready = self._ready(self._claim(now))
        fitting = {file: each for file, each in ready.items() if file.proposal in proposals}
        return fitting, [each for file, each in ready.items() if file not in fitting]

    def _send_each(self, association: ClientAssociation, pending: dict[ObjectFile, Delivery]) -> list[Delivery]:
        """Send until done, stopped, or the peer is not fit to go on; return what it has stored.

        Raises
        ------
        NoResponse
            The association is lost. The object concerned is recorded as unknown.
        PeerBusy
            It refused several in a row for the moment.
        """
        doubtful = [delivery for delivery in pending.values() if delivery.in_doubt]
        stored = self._proof.settle_doubts(association, doubtful)
        there = {delivery.id for delivery in stored}
        busy = 0
        for number, (file, delivery) in enumerate(list(pending.items()), start=1):
            if self._stop.is_set():
                break
            if file not in pending:
                continue  # its set does not go any more
            if delivery.id in there or not self._still_wanted(delivery):
                del pending[file]
                continue
            try:
                reply = self._send_one(association, file, delivery, number)
            except NoResponse as error:
                del pending[file]
                self._not_known(delivery, error)
                raise
            except (PeerRejectedObject, NoPresentationContext, TranscodingFailed, SpoolDamaged) as error:
                del pending[file]
                withdrawn = self._takes_no_such(delivery, error, pending.values())
                self._drop(pending, withdrawn)
                if delivery.job_id not in withdrawn:
                    self._give_up(delivery, error)
                continue
            except PeerBusy as error:
                del pending[file]
                self._try_later(delivery, error, counted=True)
                busy += 1
                if busy >= _BUSY_LIMIT:
                    raise
                continue
            busy = 0
            del pending[file]
            syntax, digest = reply.transfer_syntax_uid, reply.digest
            self._stored(delivery, reply.status, reply.note, sent_syntax_uid=syntax, sent_digest=digest)
            stored.append(delivery)
        return stored

    def _send_one(
        self, association: ClientAssociation, file: ObjectFile, delivery: Delivery, number: int
    ) -> StoreReply:
        with self._sending(association, delivery):
            return send_object(association, file, message_id=number, transcode=True)

    def _ask_again(self, unproven: Sequence[Unproven]) -> float:
        """Ask for what nothing has proven yet; return the pause afterwards in seconds."""
        try:
            with ClientAssociation(self._peer, self._proof.proposals, handlers=self._proof.handlers) as association:
                self._reached()
                self._proof.prove(association, unproven, repeated=True)
        except NoPresentationContext:
            self._reached()
            self._proof.prove(None, unproven)
        except (PeerUnreachable, NoResponse) as error:
            self._not_reached(error)
            return min(self._destination.retry_seconds, POLL_SECONDS)
        return 0.0
