"""The sender process: courier threads for each destination, woken by the doorbell."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from node.archive import pauses
from node.archive.engine import Store, open_store
from node.delivery import gate_states, outbox
from node.delivery.breaker import Breaker
from node.delivery.courier import Courier
from node.delivery.destination_courier import POLL_SECONDS, DestinationCourier
from node.delivery.gate import Gate
from node.delivery.gate_states import state_of
from node.delivery.proof import Proof
from node.delivery.web_courier import WebCourier
from node.doorbell import SENDER, Doorbell
from node.errors import StoreUnavailable
from node.liveness import Liveness
from node.settings import Settings

logger = logging.getLogger(__name__)

# A pause takes effect within this time: whoever sets it rings, and this is for a bell nobody heard.
_TICK_SECONDS = 0.5
_STORE_RETRY_SECONDS = 1.0
# Less than the supervisor waits before it kills.
_JOIN_SECONDS = 5.0


class Sender:
    """Everything that sends results.

    Parameters
    ----------
    settings : Settings
        Its destinations are fixed for the life of the process.
    store : Store
        Open; shared by the threads.
    clock : callable
        Seconds since the epoch, for everything that is scheduled.
    liveness : Liveness or None
        Told of every turn of the loop that wakes the couriers.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        liveness: Liveness | None = None,
    ) -> None:
        self._settings = settings
        self._liveness = liveness or Liveness()
        self._store = store
        self._clock = clock
        self._gates: dict[str, Gate] = {}
        self._paused: set[tuple[str, str]] = set()
        self._couriers = [courier for name in sorted(settings.destination) for courier in self._of(name)]

    def run(self, stop_event: threading.Event) -> None:
        """Send until ``stop_event`` is set; objects on their way get a few seconds to be finished.

        What a slow or silent peer has not answered by then is unknown at the next start.
        """
        if not self._recover(stop_event):
            return
        threads = [
            threading.Thread(target=courier.run, args=(stop_event,), name=f"courier-{courier.name}-{k}", daemon=True)
            for k, courier in enumerate(self._couriers)
        ]
        with Doorbell(self._settings.data_dir / "run", SENDER).listen() as bell:
            for thread in threads:
                thread.start()
            self._liveness.ready(f"sending to {len(self._settings.destination)} destination(s)")
            self._attend(bell, stop_event)
        self._liveness.stopping()
        self.wake()
        until = time.monotonic() + _JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                logger.warning("%s: still waiting for an answer; left behind", thread.name)

    def wake(self) -> None:
        """Have every courier look."""
        for courier in self._couriers:
            courier.news.set()

    def _of(self, name: str) -> list[DestinationCourier]:
        destination, delivery = self._settings.destination[name], self._settings.delivery
        breaker = Breaker(failures=delivery.breaker_failures, pause_seconds=delivery.breaker_seconds)
        gate = Gate(breaker, downtime=destination.downtime, catch_up_per_minute=destination.catch_up_per_minute)
        self._gates[name] = gate
        if destination.url:
            return [
                WebCourier(self._settings, self._store, name, gate=gate, clock=self._clock)
                for _ in range(destination.associations)
            ]
        proof = Proof(self._store, name, destination, clock=self._clock)
        return [
            Courier(self._settings, self._store, name, gate=gate, proof=proof, clock=self._clock)
            for _ in range(destination.associations)
        ]

    def _recover(self, stop_event: threading.Event) -> bool:
        """Take up what the last sender left in the air; False where the sender is to stop before it can."""
        while not stop_event.is_set():
            try:
                with self._store.write() as connection:
                    for name in self._settings.destination:
                        if left := outbox.recover(connection, self._clock(), name):
                            logger.warning("%s: %d deliveries were in the air when the sender ended", name, len(left))
                return True
            except StoreUnavailable as error:
                logger.error("the store is not available: %s", error)
                stop_event.wait(_STORE_RETRY_SECONDS)
        return False

    def _attend(self, bell: Doorbell, stop_event: threading.Event) -> None:
        next_poll = 0.0
        while not stop_event.is_set():
            self._liveness.beat()
            rung = bell.wait(_TICK_SECONDS)
            now = time.monotonic()
            self._stop_paused()
            if now >= next_poll:
                next_poll = now + POLL_SECONDS
                self._publish()
                rung = self._expire() or rung
            if rung:
                self._note_resumed()
                self.wake()

    def _stop_paused(self) -> None:
        """Cut off what is on the wire and was paused; what has not begun looks for itself."""
        on_wire = {number for courier in self._couriers if (number := courier.on_wire) is not None}
        if not on_wire:
            return
        try:
            with self._store.read() as connection:
                paused = outbox.paused_among(connection, on_wire) if pauses.active(connection) else set()
        except StoreUnavailable as error:
            logger.error("pauses could not be looked for: %s", error)
            return
        for courier in self._couriers if paused else ():
            courier.cut(paused)

    def _publish(self) -> None:
        """Leave what the gates are like, for those who show it."""
        now = self._clock()
        try:
            gate_states.publish(
                self._settings.data_dir, {name: state_of(gate, now) for name, gate in self._gates.items()}
            )
        except OSError as error:
            logger.warning("the state of the destinations could not be written: %s", error.strerror)

    def _note_resumed(self) -> None:
        """What waited for the end of a pause is a backlog, and leaves at the rate of one."""
        try:
            with self._store.read() as connection:
                paused = {(row.scope, row.name) for row in pauses.active(connection)}
        except StoreUnavailable as error:
            logger.error("pauses could not be looked for: %s", error)
            return
        if self._paused - paused:
            for gate in self._gates.values():
                gate.hold_back()
        self._paused = paused

    def _expire(self) -> bool:
        """Give up on overdue commitment answers; True when there were some, which are then asked for again."""
        try:
            with self._store.write() as connection:
                overdue = outbox.expire_commitments(connection, self._clock())
        except StoreUnavailable as error:
            logger.error("overdue commitments could not be looked for: %s", error)
            return False
        for transaction_uid in overdue:
            logger.warning("no answer to the commitment request %s: asking again", transaction_uid)
        return bool(overdue)


def run_sender(settings: Settings, stop_event: threading.Event, liveness: Liveness | None = None) -> None:
    """Main of the sender process."""
    store = open_store(settings)
    try:
        Sender(settings, store, liveness=liveness).run(stop_event)
    finally:
        store.close()
