"""The notifier process: a thread for each channel, and the clock of escalation. It disturbs no sender and no run."""

from __future__ import annotations

import logging
import threading
import time

from node.archive.engine import Store, open_store
from node.delivery.breaker import Breaker
from node.doorbell import NOTIFIER, Doorbell
from node.errors import StoreUnavailable
from node.identity import load_identity
from node.notify import escalation, notification_rows
from node.notify.acknowledgement import Acknowledgement
from node.notify.availability import (
    AvailabilityTransport,
    channel_of,
    file_available,
    is_available,
    told_destinations,
)
from node.notify.channel_courier import ChannelCourier, Transport
from node.notify.escalation import Escalated
from node.pulse import Pulse
from node.settings import EmailSection, FhirSection, Hl7Section, Settings, WebhookSection
from node.settings.notify import ChannelSection

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_HOUSE_SECONDS = 1.0
# What a correction or a retraction ends is barred at once; this only says so.
_SWEEP_SECONDS = 3.0
# Less than the supervisor waits before it kills.
_JOIN_SECONDS = 5.0


class Notifier:
    """Everything that tells people and systems.

    Parameters
    ----------
    settings : Settings
        Its channels are fixed for the life of the process.
    store : Store
        Open; shared by the threads.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._next_sweep = 0.0
        self._couriers: dict[str, ChannelCourier] = {}
        for name, section in sorted(settings.channel.items()):
            self._couriers[name] = ChannelCourier(
                store, name, transport_of(section, settings), section, self._breaker()
            )
        for name, told in sorted(told_destinations(settings).items()):
            transport = AvailabilityTransport(told, settings.node.ae_title)
            pauses, channel = settings.destination[name], channel_of(name)
            self._couriers[channel] = ChannelCourier(store, channel, transport, pauses, self._breaker())

    def run(self, stop_event: threading.Event) -> None:
        """Tell until ``stop_event`` is set; what is on its way gets a few seconds to be finished."""
        threads = [
            threading.Thread(target=courier.run, args=(stop_event,), name=f"channel-{name}", daemon=True)
            for name, courier in self._couriers.items()
        ]
        with Doorbell(self._settings.data_dir / "run", NOTIFIER).listen() as bell:
            for thread in threads:
                thread.start()
            next_look = 0.0
            pulse = Pulse(self._settings.data_dir, "notifier")
            while not stop_event.is_set():
                pulse.beat()
                rung = bell.wait(_TICK_SECONDS)
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + _HOUSE_SECONDS
                    rung = self.keep_house() or rung
                if rung:
                    self._wake()
            pulse.end()
        self._wake()
        until = time.monotonic() + _JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def keep_house(self) -> bool:
        """Escalate what is due, end what is moot, file what has become available; True where something was filed."""
        now = time.time()
        try:
            with self._store.read() as connection:
                # Nobody else can write while this does: so only where there is something to write.
                due = escalation.is_due(connection, now)
                if self._next_sweep <= time.monotonic():
                    self._next_sweep = time.monotonic() + _SWEEP_SECONDS
                    due = due or notification_rows.has_moot(connection) or is_available(connection, self._settings)
            if not due:
                return False
            with self._store.write() as connection:
                outdated = notification_rows.withdraw_moot(connection, now)
                steps = escalation.escalate_due(connection, now, self._settings)
                available = file_available(connection, now, self._settings)
        except StoreUnavailable as error:
            logger.error("escalation had to wait: %s", error)
            return False
        for row in outdated:
            words = "%s: has heard of study %s under an OLD IDENTITY (notification %d)"
            logger.error(words, row.channel, row.study_uid, row.id)
        for step in steps:
            _say(step)
        return bool(steps or available)

    def _wake(self) -> None:
        for courier in self._couriers.values():
            courier.news.set()

    def _breaker(self) -> Breaker:
        delivery = self._settings.delivery
        return Breaker(failures=delivery.breaker_failures, pause_seconds=delivery.breaker_seconds)


def _say(step: Escalated) -> None:
    if step.channels:
        told = ", ".join(step.channels)
        logger.warning("alert %d (%s) is not acknowledged: telling %s", step.alert_id, step.notify, told)
    else:
        words = "alert %d (%s): NOBODY HAS ACKNOWLEDGED, and nobody else is left to tell"
        logger.error(words, step.alert_id, step.notify)


def transport_of(section: ChannelSection, settings: Settings) -> Transport:
    """The way to a channel, by its kind. Their libraries are loaded by those who use them."""
    acknowledgement = Acknowledgement(settings.data_dir, settings.notifications.public_url)
    match section:
        case WebhookSection():
            from node.notify.webhook import WebhookTransport

            return WebhookTransport(section, acknowledgement)
        case EmailSection():
            from node.notify.email_message import EmailTransport

            return EmailTransport(section, acknowledgement)
        case Hl7Section():
            from node.notify.hl7_transport import Hl7Transport

            return Hl7Transport(section)
        case FhirSection():
            from node.notify.fhir import FhirTransport

            return FhirTransport(section, load_identity(settings).device_uid)


def run_notifier(settings: Settings, stop_event: threading.Event) -> None:
    """Main of the notifier process."""
    store = open_store(settings)
    try:
        Notifier(settings, store).run(stop_event)
    finally:
        store.close()
