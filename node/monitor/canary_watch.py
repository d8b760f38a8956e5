"""Flies the canary in a thread of its own, with the test AE it is sent back to."""

from __future__ import annotations

import logging
import threading
import time

from node.archive import canary_runs
from node.archive.canary_runs import CanaryState
from node.archive.engine import Store
from node.canary.cleaning import clean
from node.canary.flight import Flight, Flights
from node.dicom.pacs import TestPacs
from node.errors import CanaryLost, StoreError
from node.monitor.condition import Alarm, Condition
from node.settings import Settings

logger = logging.getLogger(__name__)


class CanaryWatch:
    """The canary of one node.

    Parameters
    ----------
    settings : Settings
    store : Store
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._since = time.monotonic()
        self._back_at: float | None = None
        self._lost: str = ""

    @property
    def fresh(self) -> bool:
        """Whether a canary came back within two intervals, and none was lost since."""
        last = self._back_at
        return last is not None and not self._lost and time.monotonic() - last < self._late_seconds

    def conditions(self) -> list[Condition]:
        """The last one was lost, or none has come back for two intervals."""
        if self._lost:
            return [Condition(Alarm.CANARY_LOST, "", f"{CanaryLost.code}: {self._lost}")]
        waited = time.monotonic() - (self._since if self._back_at is None else self._back_at)
        if waited >= self._late_seconds:
            return [Condition(Alarm.CANARY_LOST, "", f"{CanaryLost.code}: none has come back for {waited:.0f} s")]
        return []

    def run(self, stopping: threading.Event) -> None:
        """Fly until ``stopping`` is set."""
        canary = self._settings.canary
        pacs = TestPacs(
            self._settings.data_dir / "run" / "canary-pacs",
            host=canary.host,
            port=canary.port,
            ae_title=canary.ae_title,
        )
        flights = Flights(self._settings, self._store)
        if not self._land(pacs, stopping):
            return
        try:
            self._abandon()
            while not stopping.is_set():
                begun = time.monotonic()
                self._fly(flights, stopping)
                pacs.forget()
                stopping.wait(max(0.0, begun + canary.interval_seconds - time.monotonic()))
        finally:
            pacs.stop()

    @property
    def _late_seconds(self) -> float:
        return 2.0 * self._settings.canary.interval_seconds

    def _land(self, pacs: TestPacs, stopping: threading.Event) -> bool:
        """Open the test AE; False where the process is to stop before it could."""
        while not stopping.is_set():
            try:
                pacs.start()
                return True
            except OSError as error:
                self._lost = f"canary.port: the test AE cannot listen ({error.strerror})"
                stopping.wait(self._settings.canary.interval_seconds)
        return False

    def _abandon(self) -> None:
        try:
            with self._store.write() as connection:
                canary_runs.abandoned(connection, time.time())
        except StoreError as error:
            logger.error("runs of the canary could not be looked at: %s", error)

    def _fly(self, flights: Flights, stopping: threading.Event) -> None:
        try:
            flight = flights.fly(stopping)
            if flight is not None:
                self._note(flight)
            clean(self._store, self._settings)
        except StoreError as error:
            self._lost = f"the store is not available: {error.message}"
            logger.error("the canary could not fly: %s", error)

    def _note(self, flight: Flight) -> None:
        if flight.state is CanaryState.BACK:
            self._back_at, self._lost = time.monotonic(), ""
            logger.info("the canary is back after %.1f s", flight.seconds)
        else:
            self._lost = f"lost at stage {flight.stage} after {flight.seconds:.0f} s: {flight.message}"
            logger.error("the canary is lost at stage %s: %s", flight.stage, flight.message)
