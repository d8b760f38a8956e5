"""Brings notifications to one channel: claim, send, record; back off when it cannot."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from models.errors import NodeError, Transient
from node.archive.engine import Store
from node.delivery.breaker import Breaker
from node.errors import NoResponse, PeerUnreachable, StoreUnavailable
from node.notify import escalation, notification_rows
from node.notify.notification_rows import Notification, Verdict
from node.notify.states import NotificationState

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
_STORE_RETRY_SECONDS = 2.0
_SHORTEST_NAME = 3


class Transport(Protocol):
    """The way to a channel."""

    def send(self, notification: Notification) -> str:
        """Send, and return the channel's acknowledgement in words.

        Raises
        ------
        NoResponse
            It may have been heard or not.
        NodeError
            It was not heard; a transient one is tried again.
        """
        ...


class Pauses(Protocol):
    """Settings of every channel that its courier needs."""

    @property
    def retry_seconds(self) -> float: ...
    @property
    def retry_ceiling_seconds(self) -> float: ...
    @property
    def maximum_attempts(self) -> int: ...


class ChannelCourier:
    """One channel's thread.

    Parameters
    ----------
    store : Store
    name : str
        Of the channel.
    transport : Transport
    pauses : Pauses
    breaker : Breaker

    Attributes
    ----------
    news : threading.Event
        Set it when there may be something to send.
    """

    def __init__(self, store: Store, name: str, transport: Transport, pauses: Pauses, breaker: Breaker) -> None:
        self.news = threading.Event()
        self._store = store
        self._name = name
        self._transport = transport
        self._pauses = pauses
        self._breaker = breaker
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
            left = notification_rows.recover(connection, time.time(), self._name)
        if left:
            logger.warning("%s: %d notifications were in the air when the process ended", self._name, left)
        while not self._stop.is_set():
            # Cleared before looking: news that comes while we look is not lost.
            self.news.clear()
            pause = self._round()
            if pause > 0 and not self._stop.is_set():
                self.news.wait(pause)

    def _round(self) -> float:
        """Send what is due; return how long nothing is, in seconds."""
        now = time.time()
        if blocked := self._breaker.remaining(now):
            return min(blocked, POLL_SECONDS)
        with self._store.read() as connection:
            due = notification_rows.next_due(connection, self._name)
        if due is None or due > now:
            return POLL_SECONDS if due is None else min(POLL_SECONDS, max(0.01, due - now))
        with self._store.write() as connection:
            notification = notification_rows.claim(connection, now, self._name)
        if notification is None:
            return POLL_SECONDS
        self._send(notification)
        return 0.0

    def _send(self, notification: Notification) -> None:
        with self._store.read() as connection:
            verdict = notification_rows.verdict(connection, notification)
        if verdict is not Verdict.WANTED:
            with self._store.write() as connection:
                row = notification_rows.locked(connection, notification.id)
                if verdict is Verdict.SUPERSEDED:
                    notification_rows.withdraw(connection, time.time(), row, notification_rows.SUPERSEDED)
                else:
                    notification_rows.give_back(connection, time.time(), notification.id)
            return
        try:
            receipt = self._transport.send(notification)
        except NoResponse as error:
            self._not_known(notification, error)
        except NodeError as error:
            self._failed(notification, error)
        else:
            self._reached()
            with self._store.write() as connection:
                words = without_identity(receipt, notification.content)
                notification_rows.delivered(connection, time.time(), notification.id, words)

    def _not_known(self, notification: Notification, error: NodeError) -> None:
        """Told again under the same name, up to the last attempt; after that nobody knows, and the alert escalates."""
        self._not_reached(error)
        if notification.attempt >= self._pauses.maximum_attempts:
            self._failed(notification, error)
            return
        now = time.time()
        with self._store.write() as connection:
            notification_rows.unknown(
                connection,
                now,
                notification.id,
                without_identity(str(error), notification.content),
                not_before=now + self._back_off(notification.attempt),
            )

    def _failed(self, notification: Notification, error: NodeError) -> None:
        """Back to the queue, or dead. Every attempt counts: who is never reached must not keep others from being told."""
        if isinstance(error, PeerUnreachable):
            self._not_reached(error)
        else:
            self._reached()
        now = time.time()
        pause = max(self._back_off(notification.attempt), self._asked_for(error))
        words = without_identity(str(error), notification.content)
        with self._store.write() as connection:
            state = notification_rows.failed(
                connection,
                now,
                notification.id,
                message=words,
                transient=isinstance(error, Transient),
                not_before=now + pause,
                maximum_attempts=self._pauses.maximum_attempts,
            )
            if state is NotificationState.DEAD and notification.alert_id is not None:
                escalation.unheard(connection, now, notification.alert_id)
        if state is NotificationState.DEAD:
            logger.error("%s: notification %d is DEAD: %s", self._name, notification.id, words)
        else:
            logger.warning("%s: %s", self._name, words)

    def _asked_for(self, error: NodeError) -> float:
        return min(float(error.detail.get("retry_after", 0.0)), self._pauses.retry_ceiling_seconds)

    def _back_off(self, attempt: int) -> float:
        """Seconds until the next attempt: doubling to the ceiling, spread over the upper half."""
        doubled = self._pauses.retry_seconds * 2.0 ** min(attempt - 1, 30)
        return min(doubled, self._pauses.retry_ceiling_seconds) * self._jitter.uniform(0.5, 1.0)

    def _reached(self) -> None:
        if self._breaker.succeeded():
            logger.info("%s: reachable again", self._name)

    def _not_reached(self, error: NodeError) -> None:
        if self._breaker.failed(time.time()):
            logger.error("%s: paused after repeated failures (%s)", self._name, error.code)


def without_identity(words: str, content: Mapping[str, Any]) -> str:
    """A receiver's words without what it may have quoted of the patient's identity, for logs and the ledger."""
    values = [value for key, value in content.get("identity", {}).items() if key != "study_uid"]
    parts = {part for value in values for part in [value, *value.replace("=", "^").split("^")]}
    for part in sorted((each for each in parts if len(each) >= _SHORTEST_NAME), key=len, reverse=True):
        words = words.replace(part, "…")
    return words
