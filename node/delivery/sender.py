"""The sender process: a courier thread for each destination, woken by the doorbell."""

from __future__ import annotations

import logging
import threading
import time

from node.archive.engine import Store, open_store
from node.delivery import outbox
from node.delivery.courier import POLL_SECONDS, Courier
from node.delivery.web_courier import WebCourier
from node.doorbell import SENDER, Doorbell
from node.errors import StoreUnavailable
from node.settings import Settings

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
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
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._couriers = {name: _courier(settings, store, name) for name in sorted(settings.destination)}

    def run(self, stop_event: threading.Event) -> None:
        """Send until ``stop_event`` is set; objects on their way get a few seconds to be finished.

        What a slow or silent peer has not answered by then is unknown at the next start, and sent again.
        """
        threads = [
            threading.Thread(target=courier.run, args=(stop_event,), name=f"courier-{name}", daemon=True)
            for name, courier in self._couriers.items()
        ]
        with Doorbell(self._settings.data_dir / "run", SENDER).listen() as bell:
            for thread in threads:
                thread.start()
            self._attend(bell, stop_event)
        self._wake()
        until = time.monotonic() + _JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                logger.warning("%s: still waiting for an answer; left behind", thread.name)

    def _attend(self, bell: Doorbell, stop_event: threading.Event) -> None:
        next_poll = 0.0
        while not stop_event.is_set():
            rung = bell.wait(_TICK_SECONDS)
            now = time.monotonic()
            if now >= next_poll:
                next_poll = now + POLL_SECONDS
                rung = self._expire() or rung
            if rung:
                self._wake()

    def _expire(self) -> bool:
        """Give up on overdue commitment answers; True when there were some, which are then asked for again."""
        try:
            with self._store.write() as connection:
                overdue = outbox.expire_commitments(connection, time.time())
        except StoreUnavailable as error:
            logger.error("overdue commitments could not be looked for: %s", error)
            return False
        for transaction_uid in overdue:
            logger.warning("no answer to the commitment request %s: asking again", transaction_uid)
        return bool(overdue)

    def _wake(self) -> None:
        for courier in self._couriers.values():
            courier.news.set()


def _courier(settings: Settings, store: Store, name: str) -> Courier | WebCourier:
    """The way to a destination, by its kind."""
    return WebCourier(settings, store, name) if settings.destination[name].url else Courier(settings, store, name)


def run_sender(settings: Settings, stop_event: threading.Event) -> None:
    """Main of the sender process."""
    store = open_store(settings)
    try:
        Sender(settings, store).run(stop_event)
    finally:
        store.close()
