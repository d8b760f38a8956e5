"""Hears what managers of workitems tell by themselves, and has them looked at at once instead of at the next interval."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from node.archive import workitems
from node.archive.engine import Store
from node.dicomweb.web_client import WebPeer
from node.dicomweb.workitem_socket import WorkitemSocket
from node.doorbell import PERFORMER, Doorbell
from node.errors import NodeError, StoreUnavailable
from node.settings import Settings, WorkitemsSection
from node.status import run_folder
from node.workitem_manager import EventType, WorkitemEvent

logger = logging.getLogger(__name__)

_TURN_SECONDS = 0.5
# Events come in bursts: one look for many.
_PAUSE_SECONDS = 0.2
_AGAIN_SECONDS = 15.0
_LONGEST_AGAIN_SECONDS = 600.0


class WorkitemWatch:
    """Threads that wait: one for the receivers' bell, one for each manager that has a WebSocket.

    Parameters
    ----------
    settings : Settings
    store : Store
    look : callable
        Has a manager looked at soon, by its name.
    """

    def __init__(self, settings: Settings, store: Store, look: Callable[[str], None]) -> None:
        self._settings = settings
        self._store = store
        self._look = look
        self._stopping = threading.Event()
        heard = {name: each for name, each in settings.workitems.items() if each.events}
        self._by_dimse = [name for name, each in heard.items() if not each.url]
        self._threads = [
            threading.Thread(target=self._follow, args=(name, each), name=f"events of {name}", daemon=True)
            for name, each in heard.items()
            if each.url
        ]
        if self._by_dimse:
            self._threads.append(threading.Thread(target=self._listen, name="events of workitems", daemon=True))

    def start(self) -> None:
        """Begin to listen."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End every thread."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        with Doorbell(run_folder(self._settings.data_dir), PERFORMER).listen() as bell:
            while not self._stopping.is_set():
                if bell.wait(_TURN_SECONDS):
                    for name in self._by_dimse:
                        self._look(name)
                    self._stopping.wait(_PAUSE_SECONDS)

    def _follow(self, name: str, section: WorkitemsSection) -> None:
        pause, told = _AGAIN_SECONDS, ""
        while not self._stopping.is_set():
            try:
                with WorkitemSocket(WebPeer.of(section.service), self._settings.node.ae_title) as events:
                    pause, told = _AGAIN_SECONDS, ""
                    # What happened before the subscription is found by a look.
                    self._look(name)
                    while not self._stopping.is_set():
                        if (event := events.next(_TURN_SECONDS)) is not None:
                            self._take(name, event)
            except NodeError as error:
                if error.message != told:
                    logger.info("no events of workitems from %s, it is asked every interval: %s", name, error)
                told = error.message
                self._stopping.wait(pause)
                pause = min(2 * pause, _LONGEST_AGAIN_SECONDS)

    def _cancel(self, name: str, uid: str) -> None:
        """An event comes once: it is kept until the store can take it."""
        while not self._stopping.is_set():
            try:
                with self._store.write() as connection:
                    workitems.ask_to_cancel(connection, time.time(), name, uid, name)
                return
            except StoreUnavailable as error:
                logger.warning("a cancellation that %s asked for waits: %s", name, error)
                self._stopping.wait(_TURN_SECONDS)

    def _take(self, name: str, event: WorkitemEvent) -> None:
        if event.kind == EventType.CANCEL_REQUESTED:
            self._cancel(name, event.workitem_uid)
        if event.kind != EventType.PROGRESS:
            self._look(name)
