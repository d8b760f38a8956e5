"""Sends the digest once a day, at the site's time."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

from models.errors import NodeError
from node.archive.engine import Store
from node.digest import lines, make_digest
from node.monitor.messenger import Messenger
from node.settings import Settings
from node.status import run_folder

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 20.0
_DAY = timedelta(days=1)


class DigestClock:
    """Waits for ``monitor.digest_at``; the day it was sent last is kept in ``run/digest-sent``.

    Parameters
    ----------
    settings : Settings
    store : Store
    messenger : Messenger
    """

    def __init__(self, settings: Settings, store: Store, messenger: Messenger) -> None:
        self._settings = settings
        self._store = store
        self._messenger = messenger

    def run(self, stopping: threading.Event) -> None:
        """Work until ``stopping`` is set."""
        while not stopping.is_set():
            self.look()
            stopping.wait(_LOOK_SECONDS)

    def look(self) -> None:
        """Send the digest of the day where it is due."""
        now = datetime.now()
        if is_due(now, self._settings.monitor.digest_at, self._sent()):
            self._send(now)

    @property
    def _file(self) -> Path:
        return run_folder(self._settings.data_dir) / "digest-sent"

    def _sent(self) -> str:
        try:
            return self._file.read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def _send(self, now: datetime) -> None:
        monitor, until = self._settings.monitor, time.time()
        try:
            with self._store.read() as connection:
                digest = make_digest(connection, self._settings, until - _DAY.total_seconds(), until)
            text = lines(digest, monitor.digest_languages)
            for channel in monitor.digest_channels:
                self._messenger.digest(channel, {**digest.as_json(), "text": text}, text)
        except NodeError as error:
            logger.warning("the digest could not be sent, it is tried again: %s", error)
            return
        self._file.write_text(f"{now:%Y-%m-%d}", encoding="ascii")


def is_due(now: datetime, at: str, sent: str) -> bool:
    """Whether the digest of the day is to be sent; ``sent`` is the day (ISO 8601) it was sent last."""
    return f"{now:%H:%M}" >= at and f"{now:%Y-%m-%d}" != sent
