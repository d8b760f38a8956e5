"""Brings objects to one DICOMweb destination: STOW-RS, and QIDO-RS as proof."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from node.archive.engine import Store
from node.archive.placing import checked_uid
from node.delivery import outbox
from node.delivery.destination_courier import NOT_ITS_TURN, POLL_SECONDS, STOPPING, DestinationCourier
from node.delivery.gate import Gate
from node.delivery.outbox import Delivery
from node.delivery.proofs import Unproven
from node.delivery.query_proof import QueryProof
from node.dicomweb import stow
from node.dicomweb.stow import StowReply
from node.dicomweb.web_client import WebClient, WebPeer
from node.errors import (
    NoResponse,
    ObjectRejected,
    PeerBusy,
    PeerError,
    PeerRejectedObject,
    PeerUnreachable,
    SpoolDamaged,
)
from node.settings import Settings

logger = logging.getLogger(__name__)

_BUSY_LIMIT = 3


class WebCourier(DestinationCourier):
    """One thread of a DICOMweb destination; parameters as of :class:`DestinationCourier`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        name: str,
        *,
        gate: Gate,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(settings, store, name, gate=gate, clock=clock)
        self._peer = WebPeer.of(self._destination)
        self._proof = QueryProof(store, name, self._destination, self._study_uid, clock=clock)

    def _deliver(self, claimed: Sequence[Delivery]) -> None:
        """Send over one client; what is not settled at its end goes back to the queue."""
        pending = {delivery.id: delivery for delivery in claimed}
        try:
            with WebClient(self._peer) as client:
                stored = self._send_each(client, pending)
                self._proof.prove(client, [Unproven(delivery, 0) for delivery in stored])
        except PeerUnreachable as error:
            self._not_reached(error)
            for delivery in pending.values():
                self._try_later(delivery, error, counted=False)
        except NoResponse as error:
            self._not_reached(error)
            for delivery in pending.values():
                self._give_back(delivery, NOT_ITS_TURN, 0.0)
        except PeerBusy:
            for delivery in pending.values():
                self._give_back(delivery, NOT_ITS_TURN, self._destination.retry_seconds)
        except (PeerError, SpoolDamaged) as error:
            # Only the proof can end like this; it is asked for again.
            logger.warning("%s: no proof yet: %s", self.name, error)
        else:
            for delivery in pending.values():
                self._give_back(delivery, STOPPING, 0.0)

    def _send_each(self, client: WebClient, pending: dict[int, Delivery]) -> list[Delivery]:
        """Send until done, stopped, or the service is not fit to go on; return what is stored.

        ``pending`` loses what has been settled.

        Raises
        ------
        PeerUnreachable, NoResponse
            Nothing can be sent at the moment; what NoResponse concerned is recorded as unknown.
        PeerBusy
            It refused several in a row for the moment.
        """
        stored = self._settled_doubts(client, pending)
        busy = 0
        for delivery in list(pending.values()):
            if self._stop.is_set():
                break
            if delivery.id not in pending:
                continue  # its set does not go any more
            if not self._still_wanted(delivery):
                del pending[delivery.id]
                continue
            try:
                reply = self._send_one(client, delivery)
            except PeerUnreachable:
                raise
            except NoResponse as error:
                del pending[delivery.id]
                self._not_known(delivery, error)
                raise
            except PeerBusy as error:
                del pending[delivery.id]
                self._try_later(delivery, error, counted=True)
                busy += 1
                if busy >= _BUSY_LIMIT:
                    raise
                continue
            except (PeerError, SpoolDamaged) as error:
                del pending[delivery.id]
                withdrawn = self._takes_no_such(delivery, error, pending.values())
                for each in [each for each in pending.values() if each.job_id in withdrawn]:
                    del pending[each.id]
                if delivery.job_id not in withdrawn:
                    self._give_up(delivery, error)
                continue
            busy = 0
            del pending[delivery.id]
            self._reached()
            self._stored(delivery, reply.status, reply.note)
            stored.append(delivery)
        return stored

    def _settled_doubts(self, client: WebClient, pending: dict[int, Delivery]) -> list[Delivery]:
        """What may be there from an earlier attempt is not sent again unasked."""
        doubtful = []
        for delivery in [each for each in pending.values() if each.in_doubt]:
            try:
                self._study_uid(delivery)
                doubtful.append(delivery)
            except SpoolDamaged as error:
                del pending[delivery.id]
                self._give_up(delivery, error)
        stored = self._proof.settle_doubts(client, doubtful)
        for delivery in stored:
            del pending[delivery.id]
        return stored

    def _send_one(self, client: WebClient, delivery: Delivery) -> StowReply:
        """Send one object. One that is there already is as good as stored, if the query finds it."""
        file, study_uid = self._verified(delivery), self._study_uid(delivery)
        try:
            with self._sending(client, delivery):
                return stow.store(client, file, study_uid=study_uid)
        except PeerRejectedObject as error:
            if error.detail.get("status") == stow.ALREADY_THERE and self._proof.find(client, [delivery]):
                return StowReply(0x0000, error.message)
            raise

    def _ask_again(self, unproven: Sequence[Unproven]) -> float:
        try:
            with WebClient(self._peer) as client:
                self._proof.prove(client, unproven)
            self._reached()
        except (PeerUnreachable, NoResponse) as error:
            self._not_reached(error)
            return min(self._destination.retry_seconds, POLL_SECONDS)
        except SpoolDamaged as error:
            logger.error("%s: %s", self.name, error)
            ids = [each.delivery.id for each in unproven]
            with self._store.write() as connection:
                outbox.mark_unverifiable(connection, self._clock(), ids, str(error))
        return 0.0

    def _study_uid(self, delivery: Delivery) -> str:
        """Study of the object as it stands in the file: an anonymous copy is in another one than its original.

        Raises
        ------
        SpoolDamaged
            The file is missing or unreadable.
        """
        try:
            dataset = dcmread(Path(self._folder, delivery.path), specific_tags=["StudyInstanceUID"])
            return checked_uid(str(dataset.get("StudyInstanceUID", "")), "Study Instance UID")
        except (OSError, InvalidDicomError, ObjectRejected) as error:
            raise SpoolDamaged(f"frozen object {delivery.sop_instance_uid} cannot be read") from error
