"""Brings objects to one destination: claim, send, record, ask for proof; back off when it cannot."""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from models.errors import NodeError
from node.archive.engine import Store
from node.delivery import outbox
from node.delivery.breaker import Breaker
from node.delivery.outbox import Delivery
from node.delivery.proof import Proof
from node.dicom.association import ClientAssociation, Peer
from node.dicom.storage_scu import ObjectFile, batches, proposals_of, read_object_file, send_object
from node.errors import (
    NoPresentationContext,
    NoResponse,
    PeerBusy,
    PeerRejectedObject,
    PeerUnreachable,
    SpoolDamaged,
    StoreUnavailable,
)
from node.settings import Settings

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
# Small, so that something more urgent that comes meanwhile waits for few objects.
BATCH = 16
_STORE_RETRY_SECONDS = 2.0
_BUSY_LIMIT = 3
_PROOF_BATCH = 500


class Courier:
    """One destination's thread.

    Parameters
    ----------
    settings : Settings
    store : Store
    name : str
        Key of ``[destination.NAME]``.

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
        self._peer = Peer.of(self._destination, settings.node.ae_title)
        self._folder = settings.data_dir / "outbox"
        self._breaker = Breaker(
            failures=settings.delivery.breaker_failures, pause_seconds=settings.delivery.breaker_seconds
        )
        self._proof = Proof(store, name, self._destination)
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
        if self._proof.due(now):
            with self._store.read() as connection:
                unproven = outbox.awaiting_commitment(connection, self._name, _PROOF_BATCH)
            if unproven:
                return self._ask_again(unproven)
        with self._store.read() as connection:
            due = outbox.next_due(connection, self._name)
        return POLL_SECONDS if due is None else min(POLL_SECONDS, max(0.01, due - time.time()))

    def _deliver(self, claimed: Sequence[Delivery]) -> None:
        ready: dict[ObjectFile, Delivery] = {}
        for delivery in claimed:
            try:
                ready[self._verified(delivery)] = delivery
            except SpoolDamaged as error:
                self._give_up(delivery, error)
        for batch in batches(list(ready), reserved_contexts=len(self._proof.proposals)):
            self._send_batch(batch, {file: ready[file] for file in batch})

    def _send_batch(self, batch: Sequence[ObjectFile], pending: dict[ObjectFile, Delivery]) -> None:
        """Send over one association. ``pending`` loses what has been settled; the rest is settled at the end."""
        reason: NodeError = NoResponse(f"{self._peer}: not sent, the sender is stopping")
        proposals = [*proposals_of(batch), *self._proof.proposals]
        try:
            with ClientAssociation(self._peer, proposals, handlers=self._proof.handlers) as association:
                self._reached()
                stored = self._send_each(association, batch, pending)
                self._proof.ask(association, stored)
        except PeerUnreachable as error:
            reason = error
            self._not_reached(error)
        except NoPresentationContext as error:
            for delivery in pending.values():
                self._give_up(delivery, error)
            pending.clear()
        except (NoResponse, PeerBusy) as error:
            reason = error
        for delivery in pending.values():
            self._try_later(delivery, reason, counted=not isinstance(reason, PeerUnreachable))

    def _send_each(
        self, association: ClientAssociation, batch: Sequence[ObjectFile], pending: dict[ObjectFile, Delivery]
    ) -> list[Delivery]:
        """Send until done, stopped, or the peer is not fit to go on; return what it has stored.

        Raises
        ------
        NoResponse
            The association is lost. The object concerned is recorded as unknown.
        PeerBusy
            It refused several in a row for the moment.
        """
        stored: list[Delivery] = []
        busy = 0
        for number, file in enumerate(batch, start=1):
            if self._stop.is_set():
                break
            delivery = pending[file]
            if not self._still_wanted(delivery):
                del pending[file]
                continue
            try:
                reply = send_object(association, file, message_id=number)
            except NoResponse as error:
                del pending[file]
                self._not_known(delivery, error)
                self._not_reached(error)
                raise
            except (PeerRejectedObject, NoPresentationContext) as error:
                del pending[file]
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
            with self._store.write() as connection:
                current = outbox.stored(connection, time.time(), delivery.id, reply.status)
            if not current:
                logger.error(
                    "%s: %s was on the wire when a correction came: the destination has an OLD IDENTITY; see `ainode "
                    "corrections`",
                    self._name,
                    delivery.sop_instance_uid,
                )
            if reply.note:
                logger.warning("%s: %s %s", self._name, delivery.sop_instance_uid, reply.note)
            stored.append(delivery)
        return stored

    def _still_wanted(self, delivery: Delivery) -> bool:
        """Whether no correction came since the claim; else the delivery is withdrawn."""
        with self._store.read() as connection:
            wanted = outbox.still_wanted(connection, delivery)
        if not wanted:
            with self._store.write() as connection:
                outbox.withdraw_claimed(connection, time.time(), delivery.id)
            logger.warning("%s: %s is not sent, a correction came", self._name, delivery.sop_instance_uid)
        return wanted

    def _ask_again(self, unproven: Sequence[Delivery]) -> float:
        """Ask for what an earlier request never settled; return the pause afterwards in seconds."""
        try:
            with ClientAssociation(self._peer, self._proof.proposals, handlers=self._proof.handlers) as association:
                self._reached()
                self._proof.ask(association, unproven, repeated=True)
        except NoPresentationContext as error:
            self._proof.unavailable(error)
        except (PeerUnreachable, NoResponse) as error:
            self._not_reached(error)
            return min(self._destination.retry_seconds, POLL_SECONDS)
        return 0.0

    def _verified(self, delivery: Delivery) -> ObjectFile:
        """The file, if it still has the frozen bytes.

        Raises
        ------
        SpoolDamaged
            It is missing or differs from its digest.
        """
        path = Path(self._folder, delivery.path)
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise SpoolDamaged(
                f"frozen object {delivery.sop_instance_uid} cannot be read ({error.strerror})"
            ) from error
        if digest != delivery.digest:
            raise SpoolDamaged(f"frozen object {delivery.sop_instance_uid} differs from its digest", digest=digest)
        return read_object_file(path)

    def _give_up(self, delivery: Delivery, error: NodeError) -> None:
        logger.error("%s: %s", self._name, error)
        self._failed(delivery, error, transient=False, counted=True)

    def _try_later(self, delivery: Delivery, error: NodeError, *, counted: bool) -> None:
        """Back to the queue. An attempt that never reached the peer does not count towards the last one."""
        self._failed(delivery, error, transient=True, counted=counted)

    def _failed(self, delivery: Delivery, error: NodeError, *, transient: bool, counted: bool) -> None:
        now = time.time()
        with self._store.write() as connection:
            outbox.failed(
                connection,
                now,
                delivery.id,
                status=error.detail.get("status"),
                message=str(error),
                transient=transient,
                not_before=now + self._back_off(delivery.attempt),
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
