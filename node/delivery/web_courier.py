"""Brings objects to one DICOMweb destination: claim, STOW-RS, record, prove by QIDO-RS.

The same states and rows as :mod:`node.delivery.courier`; only the way to the destination differs.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from models.errors import NodeError
from node.archive.engine import Store
from node.archive.placing import checked_uid
from node.delivery import outbox
from node.delivery.breaker import Breaker
from node.delivery.outbox import Delivery
from node.delivery.outbox_files import file_digest
from node.delivery.query_proof import QueryProof
from node.dicom.storage_scu import ObjectFile, read_object_file
from node.dicomweb import stow
from node.dicomweb.web_client import WebClient, WebPeer
from node.errors import (
    NoResponse,
    ObjectRejected,
    PeerBusy,
    PeerError,
    PeerRejectedObject,
    PeerUnreachable,
    SpoolDamaged,
    StoreUnavailable,
)
from node.settings import Settings

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
BATCH = 16
_STORE_RETRY_SECONDS = 2.0
_BUSY_LIMIT = 3


class WebCourier:
    """One DICOMweb destination's thread.

    Parameters
    ----------
    settings : Settings
    store : Store
    name : str
        Key of ``[destination.NAME]``, with a url.

    Attributes
    ----------
    news : threading.Event
        Set it when there may be something to send.
    """

    def __init__(self, settings: Settings, store: Store, name: str) -> None:
        self.news = threading.Event()
        self._store = store
        self._name = name
        self._destination = settings.destination[name]
        self._peer = WebPeer.of(self._destination)
        self._folder = settings.data_dir / "outbox"
        self._breaker = Breaker(
            failures=settings.delivery.breaker_failures, pause_seconds=settings.delivery.breaker_seconds
        )
        self._proof = QueryProof(store, name, self._study_uid, wanted=self._destination.commitment)
        self._jitter = random.Random()
        self._stop = threading.Event()

    def run(self, stop_event: threading.Event) -> None:
        """Work until ``stop_event`` is set. Whatever fails, the thread goes on."""
        self._stop = stop_event
        while not stop_event.is_set():
            try:
                self._work()
            except StoreUnavailable as error:
                logger.error("%s: %s", self._name, error)
                stop_event.wait(_STORE_RETRY_SECONDS)
            except Exception:
                logger.exception("%s: unexpected failure; what was in the air is sent again", self._name)
                stop_event.wait(_STORE_RETRY_SECONDS)

    def _work(self) -> None:
        with self._store.write() as connection:
            left = outbox.recover(connection, time.time(), self._name)
        if left:
            logger.warning("%s: %d deliveries were in the air when the sender ended", self._name, len(left))
        while not self._stop.is_set():
            # Cleared before looking: news that comes while we look is not lost.
            self.news.clear()
            pause = self._round()
            if pause > 0 and not self._stop.is_set():
                self.news.wait(pause)

    def _round(self) -> float:
        """Do what is due; return how long nothing is, in seconds."""
        now = time.time()
        if blocked := self._breaker.remaining(now):
            return min(blocked, POLL_SECONDS)
        with self._store.write() as connection:
            claimed = outbox.claim(connection, now, self._name, BATCH)
        if claimed:
            self._deliver(claimed)
            return 0.0
        if unproven := self._proof.due(now):
            self._prove(unproven)
            return 0.0
        with self._store.read() as connection:
            due = outbox.next_due(connection, self._name)
        waits = [POLL_SECONDS, *([due - time.time()] if due is not None else []), *self._proof.waits(time.time())]
        return max(0.01, min(waits))

    def _deliver(self, claimed: Sequence[Delivery]) -> None:
        """Send what was claimed over one client; what is not settled at its end goes back to the queue."""
        pending = {delivery.id: delivery for delivery in claimed}
        reason: NodeError = NoResponse(f"{self._peer}: not sent, the sender is stopping")
        try:
            with WebClient(self._peer) as client:
                self._send_each(client, pending)
        except (PeerUnreachable, PeerBusy) as error:
            reason = error
            if isinstance(error, PeerUnreachable):
                self._not_reached(error)
        except NoResponse as error:
            reason = error
        for delivery in pending.values():
            self._failed(delivery, reason, transient=True, counted=isinstance(reason, PeerBusy))

    def _send_each(self, client: WebClient, pending: dict[int, Delivery]) -> None:
        """Send until done, stopped, or the service is not fit to go on. ``pending`` loses what has been settled.

        Raises
        ------
        PeerUnreachable, NoResponse
            Nothing can be sent at the moment; what NoResponse concerned is recorded as unknown.
        PeerBusy
            It refused several in a row for the moment.
        """
        busy = 0
        for delivery in list(pending.values()):
            if self._stop.is_set():
                return
            if not self._still_wanted(delivery):
                del pending[delivery.id]
                continue
            try:
                there = delivery.attempt > 1 and self._is_there(client, delivery)
                status = 0 if there else self._stored(client, delivery)
            except PeerUnreachable:
                raise
            except NoResponse as error:
                del pending[delivery.id]
                self._not_known(delivery, error)
                self._not_reached(error)
                raise
            except PeerBusy as error:
                del pending[delivery.id]
                self._failed(delivery, error, transient=True, counted=True)
                busy += 1
                if busy >= _BUSY_LIMIT:
                    raise
                continue
            except (PeerError, SpoolDamaged) as error:
                del pending[delivery.id]
                logger.error("%s: %s", self._name, error)
                self._failed(delivery, error, transient=False, counted=True)
                continue
            busy = 0
            del pending[delivery.id]
            self._reached()
            self._record(delivery, status)

    def _stored(self, client: WebClient, delivery: Delivery) -> int:
        """Send one object; return the status. One that is there already is as good as stored, if the query finds it."""
        try:
            reply = stow.store(client, self._verified(delivery), study_uid=self._study_uid(delivery))
        except PeerRejectedObject as error:
            if error.detail.get("status") == stow.ALREADY_THERE and self._is_there(client, delivery):
                return 0
            raise
        if reply.note:
            logger.warning("%s: %s %s", self._name, delivery.sop_instance_uid, reply.note)
        return reply.status

    def _is_there(self, client: WebClient, delivery: Delivery) -> bool:
        """Whether an earlier attempt has arrived: what may be there is not sent again unasked."""
        try:
            return bool(self._proof.find(client, [delivery]))
        except (PeerBusy, PeerRejectedObject) as error:
            logger.warning("%s: cannot be asked what it has: %s", self._name, error)
            return False

    def _record(self, delivery: Delivery, status: int) -> None:
        with self._store.write() as connection:
            current = outbox.stored(connection, time.time(), delivery.id, status)
        if not current:
            logger.error(
                "%s: %s was on the wire when a correction came: the destination has an OLD IDENTITY; see `ainode "
                "corrections`",
                self._name,
                delivery.sop_instance_uid,
            )

    def _prove(self, unproven: Sequence[Delivery]) -> None:
        try:
            with WebClient(self._peer) as client:
                self._proof.ask(client, unproven)
        except (PeerUnreachable, NoResponse) as error:
            self._proof.put_off(unproven)
            self._not_reached(error)
        except (PeerError, SpoolDamaged) as error:
            self._proof.put_off(unproven)
            logger.warning("%s: no proof: %s", self._name, error)

    def _still_wanted(self, delivery: Delivery) -> bool:
        """Whether no correction came since the claim; else the delivery is withdrawn."""
        with self._store.read() as connection:
            wanted = outbox.still_wanted(connection, delivery)
        if not wanted:
            with self._store.write() as connection:
                outbox.withdraw_claimed(connection, time.time(), delivery.id)
            logger.warning("%s: %s is not sent, a correction came", self._name, delivery.sop_instance_uid)
        return wanted

    def _verified(self, delivery: Delivery) -> ObjectFile:
        """The file, if it still has the frozen bytes.

        Raises
        ------
        SpoolDamaged
            It is missing or differs from its digest.
        """
        path = Path(self._folder, delivery.path)
        try:
            digest = file_digest(path)
        except OSError as error:
            raise SpoolDamaged(
                f"frozen object {delivery.sop_instance_uid} cannot be read ({error.strerror})"
            ) from error
        if digest != delivery.digest:
            raise SpoolDamaged(f"frozen object {delivery.sop_instance_uid} differs from its digest", digest=digest)
        return read_object_file(path)

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

    def _failed(self, delivery: Delivery, error: NodeError, *, transient: bool, counted: bool) -> None:
        """Back to the queue, or dead. An attempt that never reached the service does not count towards the last one."""
        now = time.time()
        asked_for = min(float(error.detail.get("retry_after", 0.0)), self._destination.retry_ceiling_seconds)
        pause = max(self._back_off(delivery.attempt), asked_for)
        with self._store.write() as connection:
            outbox.failed(
                connection,
                now,
                delivery.id,
                status=error.detail.get("status"),
                message=str(error),
                transient=transient,
                not_before=now + pause,
                maximum_attempts=self._destination.maximum_attempts if counted else None,
            )

    def _not_known(self, delivery: Delivery, error: NodeError) -> None:
        now = time.time()
        with self._store.write() as connection:
            outbox.unknown(connection, now, delivery.id, str(error), not_before=now + self._back_off(delivery.attempt))

    def _back_off(self, attempt: int) -> float:
        """Seconds until the next attempt: doubling to the ceiling, spread over the upper half."""
        doubled = self._destination.retry_seconds * 2.0 ** min(attempt - 1, 30)
        return min(doubled, self._destination.retry_ceiling_seconds) * self._jitter.uniform(0.5, 1.0)

    def _reached(self) -> None:
        if self._breaker.succeeded():
            logger.info("%s: reachable again", self._name)

    def _not_reached(self, error: NodeError) -> None:
        logger.warning("%s: %s", self._name, error)
        if self._breaker.failed(time.time()):
            logger.error("%s: paused after repeated failures", self._name)
