"""What the couriers of every kind of destination share: claim, record, back off, ask for proof again.

How an object gets there is the business of :mod:`node.delivery.courier` (DICOM) and :mod:`node.delivery.web_courier`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from models.errors import NodeError
from node.archive.engine import Store
from node.delivery import alternatives, outbox
from node.delivery.gate import Gate
from node.delivery.outbox import Delivery, Verdict
from node.delivery.outbox_files import file_digest
from node.delivery.proofs import Unproven, next_question
from node.dicom.storage_scu import ObjectFile, read_object_file
from node.doorbell import DISPATCHER, ring
from node.errors import SpoolDamaged, StoreUnavailable
from node.settings import Settings
from node.status import run_folder

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
# Small, so that something more urgent that comes meanwhile waits for few objects.
BATCH = 16
_STORE_RETRY_SECONDS = 2.0
_PROOF_BATCH = 500

NOT_TAKEN = frozenset({0x0122, 0xA770})
"""SOP class not supported (PS3.7 C.5.20, PS3.18 table I.2-2); transfer syntax not supported (PS3.18 only)."""
STOPPING = "not sent, the sender is stopping"
NOT_ITS_TURN = "not sent, the association ended before its turn"


class Cuttable(Protocol):
    """A connection that can be ended from another thread."""

    def cut(self) -> None:
        """End it at once."""
        ...


class DestinationCourier(ABC):
    """One thread of a destination; several share its gate and its proof.

    Parameters
    ----------
    settings : Settings
    store : Store
    name : str
        Key of ``[destination.NAME]``.
    gate : Gate
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.news = threading.Event()
        self.name = name
        self._store = store
        self._destination = settings.destination[name]
        self._folder = settings.data_dir / "outbox"
        self._bells = run_folder(settings.data_dir)
        self._gate = gate
        self._clock = clock
        self._jitter = random.Random()
        self._stop = threading.Event()
        self._in_downtime = False
        self._wire_guard = threading.Lock()
        self._on_wire: tuple[Cuttable, int] | None = None
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

    @abstractmethod
    def _deliver(self, claimed: Sequence[Delivery]) -> None:
        """Send what was claimed; afterwards none of it is ``sending`` any more."""

    @abstractmethod
    def _ask_again(self, unproven: Sequence[Unproven]) -> float:
        """Ask for what nothing has proven yet; return the pause afterwards in seconds."""

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

    def _stored(
        self, delivery: Delivery, status: int, note: str = "", *, sent_syntax_uid: str = "", sent_digest: str = ""
    ) -> None:
        with self._store.write() as connection:
            current = outbox.stored(
                connection,
                self._clock(),
                delivery.id,
                status,
                note=note,
                sent_syntax_uid=sent_syntax_uid,
                sent_digest=sent_digest,
            )
        if not current:
            words = (
                "was on the wire when a correction came: the destination has an OLD IDENTITY; see `ainode corrections`"
            )
            logger.error("%s: %s %s", self.name, delivery.sop_instance_uid, words)
        if note:
            logger.warning("%s: %s %s", self.name, delivery.sop_instance_uid, note)

    @contextmanager
    def _sending(self, connection: Cuttable, delivery: Delivery) -> Iterator[None]:
        """While an object is on the wire a pause can cut it off."""
        with self._wire_guard:
            self._on_wire = (connection, delivery.id)
        try:
            yield
        finally:
            with self._wire_guard:
                self._on_wire = None

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

    def _other_sets(self, refused: Sequence[Delivery], claimed: Iterable[Delivery]) -> set[int]:
        """Have another set made for each that the peer does not take an object of.

        Parameters
        ----------
        claimed : iterable of Delivery
            What else is claimed; the rest of these sets is withdrawn with them.

        Returns
        -------
        set of int
            Numbers of the jobs whose sets do not go any more.
        """
        with self._store.write() as connection:
            withdrawn = alternatives.file(connection, self._clock(), self.name, refused)
            for delivery in (*refused, *claimed):
                if delivery.job_id in withdrawn:
                    outbox.withdraw_claimed(connection, self._clock(), delivery.id)
        if withdrawn:
            classes = ", ".join(sorted({each.sop_class_uid for each in refused}))
            logger.warning("%s: does not take %s; another set is made from the stored result", self.name, classes)
            ring(self._bells, DISPATCHER)
        return withdrawn

    def _takes_no_such(self, delivery: Delivery, error: NodeError, claimed: Iterable[Delivery]) -> set[int]:
        """As :meth:`_other_sets`, where an answer to one object says that such objects are not taken."""
        if error.detail.get("status") not in NOT_TAKEN:
            return set()
        return self._other_sets([delivery], claimed)

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
        # A web service may say when it wants to be asked again.
        asked_for = min(float(error.detail.get("retry_after", 0.0)), self._destination.retry_ceiling_seconds)
        with self._store.write() as connection:
            outbox.failed(
                connection,
                now,
                delivery.id,
                status=error.detail.get("status"),
                message=str(error),
                transient=transient,
                not_before=now + max(self._back_off(delivery.attempt), asked_for),
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
