"""Brings objects to one destination: claim, send, record, ask for proof; back off when it cannot."""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from models.errors import NodeError
from node.archive.engine import Store
from node.delivery import alternatives, outbox
from node.delivery.gate import Gate
from node.delivery.outbox import Delivery, Verdict
from node.delivery.proof import Proof
from node.delivery.proofs import Unproven, next_question
from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.storage_scu import ObjectFile, StoreReply, batches, proposals_of, read_object_file, send_object
from node.doorbell import DISPATCHER, ring
from node.errors import (
    NoPresentationContext,
    NoResponse,
    PeerBusy,
    PeerRejectedObject,
    PeerUnreachable,
    SpoolDamaged,
    StoreUnavailable,
    TranscodingFailed,
)
from node.settings import Settings
from node.status import run_folder

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
# Small, so that something more urgent that comes meanwhile waits for few objects.
BATCH = 16
# An association is kept for more than one batch; proof is asked for at its end, which must not wait for long.
_OBJECTS_PER_ASSOCIATION = 256
_STORE_RETRY_SECONDS = 2.0
_BUSY_LIMIT = 3
_PROOF_BATCH = 500

STOPPING = "not sent, the sender is stopping"
NOT_ITS_TURN = "not sent, the association ended before its turn"


class Courier:
    """One thread of a destination; several share its gate and its proof.

    Parameters
    ----------
    settings : Settings
    store : Store
    name : str
        Key of ``[destination.NAME]``.
    gate : Gate
    proof : Proof
    clock : callable
        Seconds since the epoch. Waiting is done by the real one.

    Attributes
    ----------
    news : threading.Event
        Set it when there may be something to send.
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
        self.news = threading.Event()
        self.name = name
        self._store = store
        self._destination = settings.destination[name]
        self._peer = Peer.of(self._destination, settings.node.ae_title)
        self._folder = settings.data_dir / "outbox"
        self._bells = run_folder(settings.data_dir)
        self._gate = gate
        self._proof = proof
        self._clock = clock
        self._jitter = random.Random()
        self._stop = threading.Event()
        self._in_downtime = False
        self._wire_guard = threading.Lock()
        self._on_wire: tuple[ClientAssociation, int] | None = None
        self._claimed: set[int] = set()

    def run(self, stop_event: threading.Event) -> None:
        """Work until ``stop_event`` is set. Whatever fails, the thread goes on."""
        self._stop = stop_event
        while not stop_event.is_set():
            try:
                self._work()
            except StoreUnavailable as error:
                logger.error("%s: %s", self.name, error)
                stop_event.wait(_STORE_RETRY_SECONDS)
            except Exception:
                logger.exception("%s: unexpected failure; what was in the air is sent again", self.name)
                stop_event.wait(_STORE_RETRY_SECONDS)

    @property
    def on_wire(self) -> int | None:
        """Number of the delivery that is being sent."""
        with self._wire_guard:
            return self._on_wire[1] if self._on_wire else None

    def cut(self, delivery_ids: Collection[int]) -> None:
        """End the sending of one of these at once, from another thread."""
        with self._wire_guard:
            if self._on_wire is not None and self._on_wire[1] in delivery_ids:
                logger.warning("%s: stopped in the middle of an object, it is paused", self.name)
                self._on_wire[0].cut()

    def _work(self) -> None:
        if self._claimed:
            # After a failure nobody foresaw.
            with self._store.write() as connection:
                outbox.recover(connection, self._clock(), self.name, among=self._claimed)
            self._claimed.clear()
        while not self._stop.is_set():
            # Cleared before looking: news that comes while we look is not lost.
            self.news.clear()
            pause = self._round()
            self._claimed.clear()
            if pause > 0 and not self._stop.is_set():
                self.news.wait(pause)

    def _round(self) -> float:
        """Do what is due; return how long nothing is, in seconds."""
        now = self._clock()
        if closed := self._gate.closed(now):
            self._note_downtime(closed.seconds if closed.planned else None)
            return min(closed.seconds, POLL_SECONDS)
        self._note_downtime(None)
        if claimed := self._claim(now):
            self._deliver(claimed)
            return 0.0
        with self._store.read() as connection:
            unproven = outbox.awaiting_proof(connection, now, self.name, _PROOF_BATCH)
        if unproven:
            return self._ask_again(unproven)
        with self._store.read() as connection:
            moments = (outbox.next_due(connection, self.name), next_question(connection, self.name))
        due = min((moment for moment in moments if moment is not None), default=now + POLL_SECONDS)
        return min(POLL_SECONDS, max(0.01, due - self._clock(), self._gate.next_allowance()))

    def _claim(self, now: float) -> list[Delivery]:
        """What may leave now: what is STAT in any case, the rest as fast as the gate lets it."""
        with self._store.write() as connection:
            claimed = outbox.claim(connection, now, self.name, BATCH, stat_only=True)
            wanted = BATCH - len(claimed)
            allowed = self._gate.allowance(now, wanted)
            others = outbox.claim(connection, now, self.name, allowed) if allowed else []
        if allowed:
            self._gate.used(len(others), wanted=allowed)
        self._claimed.update(delivery.id for delivery in claimed + others)
        return claimed + others

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
        if not refused:
            return
        with self._store.write() as connection:
            withdrawn = alternatives.file(connection, self._clock(), self.name, refused)
            for file, delivery in list(pending.items()):
                if delivery.job_id in withdrawn:
                    outbox.withdraw_claimed(connection, self._clock(), delivery.id)
                    del pending[file]
        if withdrawn:
            classes = ", ".join(sorted({each.sop_class_uid for each in refused}))
            logger.warning("%s: does not take %s; another set is made from the stored result", self.name, classes)
            ring(self._bells, DISPATCHER)

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
            self._stored(delivery, reply)
            stored.append(delivery)
        return stored

    def _send_one(
        self, association: ClientAssociation, file: ObjectFile, delivery: Delivery, number: int
    ) -> StoreReply:
        with self._wire_guard:
            self._on_wire = (association, delivery.id)
        try:
            return send_object(association, file, message_id=number, transcode=True)
        finally:
            with self._wire_guard:
                self._on_wire = None

    def _stored(self, delivery: Delivery, reply: StoreReply) -> None:
        with self._store.write() as connection:
            current = outbox.stored(
                connection,
                self._clock(),
                delivery.id,
                reply.status,
                note=reply.note,
                sent_syntax_uid=reply.transfer_syntax_uid,
                sent_digest=reply.digest,
            )
        if not current:
            words = (
                "was on the wire when a correction came: the destination has an OLD IDENTITY; see `ainode corrections`"
            )
            logger.error("%s: %s %s", self.name, delivery.sop_instance_uid, words)
        if reply.note:
            logger.warning("%s: %s %s", self.name, delivery.sop_instance_uid, reply.note)

    def _still_wanted(self, delivery: Delivery) -> bool:
        """Whether no correction and no pause came since the claim; else the delivery is withdrawn, or waits again."""
        with self._store.read() as connection:
            verdict = outbox.verdict(connection, delivery)
        if verdict is Verdict.PAUSED:
            self._gate.hold_back()
            self._give_back(delivery, "paused by an operator", 0.0)
        elif verdict is Verdict.SUPERSEDED:
            with self._store.write() as connection:
                outbox.withdraw_claimed(connection, self._clock(), delivery.id)
            logger.warning("%s: %s is not sent, a correction came", self.name, delivery.sop_instance_uid)
        return verdict is Verdict.WANTED

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

    def _give_back(self, delivery: Delivery, why: str, seconds: float) -> None:
        now = self._clock()
        with self._store.write() as connection:
            outbox.give_back(connection, now, delivery.id, why, not_before=now + seconds)

    def _give_up(self, delivery: Delivery, error: NodeError) -> None:
        logger.error("%s: %s", self.name, error)
        self._failed(delivery, error, transient=False, counted=True)

    def _try_later(self, delivery: Delivery, error: NodeError, *, counted: bool) -> None:
        """Back to the queue. An attempt that never reached the peer does not count towards the last one."""
        self._failed(delivery, error, transient=True, counted=counted)

    def _failed(self, delivery: Delivery, error: NodeError, *, transient: bool, counted: bool) -> None:
        now = self._clock()
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
        now = self._clock()
        not_before = now + self._back_off(delivery.attempt)
        limit = self._destination.maximum_attempts
        with self._store.write() as connection:
            outbox.unknown(connection, now, delivery.id, str(error), not_before=not_before, maximum_attempts=limit)

    def _back_off(self, attempt: int) -> float:
        """Seconds until the next attempt: doubling to the ceiling, spread over the upper half."""
        doubled = self._destination.retry_seconds * 2.0 ** min(attempt - 1, 30)
        return min(doubled, self._destination.retry_ceiling_seconds) * self._jitter.uniform(0.5, 1.0)

    def _note_downtime(self, seconds: float | None) -> None:
        if seconds is not None and not self._in_downtime:
            logger.info("%s: planned downtime, %.0f s to go", self.name, seconds)
        self._in_downtime = seconds is not None

    def _reached(self) -> None:
        if self._gate.succeeded():
            logger.info("%s: reachable again", self.name)

    def _not_reached(self, error: NodeError) -> None:
        logger.warning("%s: %s", self.name, error)
        if self._gate.failed(self._clock()):
            logger.error("%s: paused after repeated failures", self.name)
