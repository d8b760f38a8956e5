"""The monitor process: looks every second, tells in threads of its own, so that no slow peer keeps it from looking."""

from __future__ import annotations

import logging
import threading
import time

import httpx

from models.errors import NodeError
from node.archive.engine import Store, open_store
from node.errors import StoreError
from node.liveness import Liveness
from node.monitor.alarms import Alarms
from node.monitor.canary_watch import CanaryWatch
from node.monitor.certificates import CertificateDate, certificate_conditions, own_dates, peer_dates, shown_dates
from node.monitor.condition import Alarm, Condition
from node.monitor.digest_clock import DigestClock
from node.monitor.disk import disk_conditions
from node.monitor.messenger import Messenger
from node.monitor.processes import ProcessWatch
from node.readiness import database_problem
from node.settings import Settings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
_OWN_CERTIFICATES_SECONDS = 5.0
_PEER_CERTIFICATES_SECONDS = 6 * 3600.0
_DATABASE_SECONDS = 10.0
_TELL_AGAIN_SECONDS = 10.0
_JOIN_SECONDS = 4.0


class Monitor:
    """Everything that watches.

    Parameters
    ----------
    settings : Settings
    store : Store
    """

    def __init__(self, settings: Settings, store: Store, liveness: Liveness | None = None) -> None:
        self._settings = settings
        self._liveness = liveness or Liveness()
        self._store = store
        self._processes = ProcessWatch(settings)
        self._canary = CanaryWatch(settings, store) if settings.canary.enabled else None
        self._alarms = Alarms(
            settings.data_dir, settings.monitor.channels, repeat_seconds=settings.monitor.repeat_hours * 3600.0
        )
        self._messenger = Messenger(settings)
        self._guard = threading.Lock()
        self._own: list[CertificateDate] = []
        self._peers: list[CertificateDate] = []
        self._database: list[Condition] = []
        self._healthy = False

    def run(self, stopping: threading.Event) -> None:
        """Watch until ``stopping`` is set."""
        work = [self._tell, self._look_at_peers, self._look_at_database]
        if self._settings.monitor.dead_man_url:
            work.append(self._ping)
        if self._settings.monitor.digest_channels:
            work.append(DigestClock(self._settings, self._store, self._messenger).run)
        if self._canary is not None:
            work.append(self._canary.run)
        if self._settings.audit.enabled:
            from node.audit.forwarder import Forwarder

            work.append(Forwarder(self._settings, self._store).run)
        threads = [threading.Thread(target=each, args=(stopping,), daemon=True) for each in work]
        for thread in threads:
            thread.start()
        self._liveness.ready("watching")
        next_own = 0.0
        while not stopping.wait(LOOK_SECONDS):
            if time.monotonic() >= next_own:
                next_own = time.monotonic() + _OWN_CERTIFICATES_SECONDS
                self._own = [*own_dates(self._settings), *shown_dates(self._settings)]
            self.look()
            self._liveness.beat(certificates={each.name: each.expires_at for each in [*self._own, *self._peers]})
        self._liveness.stopping()
        until = time.monotonic() + _JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def look(self) -> list[Condition]:
        """Look once, and keep alarms accordingly; return what is wrong."""
        found = [*self._processes.look(), *disk_conditions(self._settings), *self._database]
        found += certificate_conditions([*self._own, *self._peers], self._settings.monitor.certificate_days)
        if self._canary is not None:
            found += self._canary.conditions()
        with self._guard:
            self._alarms.update(found, time.time())
        vital = {Alarm.PROCESS_SILENT, Alarm.CANARY_LOST, Alarm.DATABASE_NOT_WRITABLE, Alarm.DISK_FULL}
        proven = self._canary is None or self._canary.fresh
        self._healthy = proven and not any(each.alarm in vital for each in found)
        return found

    def _tell(self, stopping: threading.Event) -> None:
        not_before: dict[str, float] = {}
        while not stopping.wait(LOOK_SECONDS / 2):
            with self._guard:
                due = [each for each in self._alarms.due() if not_before.get(each[1], 0.0) <= time.monotonic()]
            for standing, channel in due:
                if not_before.get(channel, 0.0) > time.monotonic():
                    continue
                try:
                    self._messenger.alarm(channel, standing.message(self._settings.node.name))
                except NodeError as error:
                    logger.error("%s could not be told of %s: %s", channel, standing.alarm, error)
                    not_before[channel] = time.monotonic() + _TELL_AGAIN_SECONDS
                else:
                    with self._guard:
                        self._alarms.was_told(standing, channel, time.time())

    def _ping(self, stopping: threading.Event) -> None:
        """Call the dead-man's switch as long as all is well: who does not hear from us raises the alarm."""
        monitor = self._settings.monitor
        while not stopping.is_set():
            if self._healthy:
                try:
                    httpx.get(monitor.dead_man_url, timeout=min(10.0, monitor.dead_man_seconds)).raise_for_status()
                except httpx.HTTPError as error:
                    logger.warning("the dead-man ping was not taken: %s", type(error).__name__)
                stopping.wait(monitor.dead_man_seconds)
            else:
                stopping.wait(LOOK_SECONDS)

    def _look_at_peers(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self._peers = peer_dates(self._settings)
            stopping.wait(_PEER_CERTIFICATES_SECONDS)

    def _look_at_database(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            problem = database_problem(self._store)
            self._database = [] if problem is None else [Condition(Alarm.DATABASE_NOT_WRITABLE, "", problem)]
            stopping.wait(_DATABASE_SECONDS)


def run_monitor(settings: Settings, stopping: threading.Event, liveness: Liveness | None = None) -> None:
    """Main of the monitor process."""
    store = _opened(settings, stopping)
    if store is None:
        return
    try:
        Monitor(settings, store, liveness).run(stopping)
    finally:
        store.close()


def _opened(settings: Settings, stopping: threading.Event) -> Store | None:
    """The store; None where the process is to stop before it could be opened."""
    while not stopping.is_set():
        try:
            return open_store(settings)
        except StoreError as error:
            logger.error("the store is not available: %s", error)
            stopping.wait(_DATABASE_SECONDS)
    return None
