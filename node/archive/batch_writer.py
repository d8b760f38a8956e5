"""The one writer of a receiver in mode ``association``: files are synced and indexed some at a time.

Whoever receives hands over a file that has its place in the spool and goes on. The writer syncs the files and the
folder entries of a batch and only then lets their rows be seen, so that a study can never be claimed before its images
are on the disk. A process killed in between leaves files that the next start finds (``index.rescan``).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, Full, Queue

from sqlalchemy.exc import SQLAlchemyError

from node.archive.engine import Store
from node.archive.entry import Opened, enter
from node.archive.instance_index import Arrival, Recorded
from node.archive.spool import Spool
from node.errors import SpoolError, StoreUnavailable

logger = logging.getLogger(__name__)

_GATHER_SECONDS = 0.05
_LARGEST_BATCH = 256
# So many may be acknowledged and not yet indexed; beyond, senders are told to try again.
_WAITING = 2000
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.2
_RETRY_SECONDS = 1.0


class BatchWriter:
    """Indexes arrivals in a thread of its own. Safe to share between threads.

    Parameters
    ----------
    store : Store
    spool : Spool
    tell : callable
        Called after each batch, without arguments.
    """

    def __init__(self, store: Store, spool: Spool, tell: Callable[[], None]) -> None:
        self._store = store
        self._spool = spool
        self._tell = tell
        self._arrivals: Queue[tuple[Arrival, Opened]] = Queue(_WAITING)
        self._changed = threading.Lock()
        self._unwritten: Counter[str] = Counter()
        self._opened: set[str] = set()
        self._endings: dict[str, Callable[[], None]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Write what waits, for so long at most, and end. What is left then is found by the next start's rescan."""
        self._stopping.set()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive() or self._unwritten:
            logger.error("%d instances are in the spool and not in the index yet", self._unwritten.total())

    @property
    def is_alive(self) -> bool:
        """Whether what is handed over will be written."""
        return self._thread.is_alive()

    def add(self, arrival: Arrival, association: Opened) -> None:
        """Hand over a file that is in the spool, not synced.

        Raises
        ------
        StoreUnavailable
            Too many wait already.
        """
        with self._changed:
            self._unwritten[association.id] += 1
        try:
            self._arrivals.put((arrival, association), timeout=_PATIENCE_SECONDS)
        except Full:
            self._done([association.id])
            raise StoreUnavailable(f"{_WAITING} instances wait for their index entry") from None

    def when_indexed(self, association_id: str, then: Callable[[], None]) -> None:
        """Call ``then`` once everything that an association brought is indexed: at once, or later in the writer's thread."""
        with self._changed:
            if self._unwritten[association_id]:
                self._endings[association_id] = then
                return
        then()

    def forget(self, association_id: str) -> None:
        """The association has ended."""
        with self._changed:
            self._opened.discard(association_id)
            if not self._unwritten[association_id]:
                del self._unwritten[association_id]

    def _run(self) -> None:
        while batch := self._gather():
            self._write_until_done(batch)
            self._done([association.id for _, association in batch])
            self._tell()

    def _gather(self) -> list[tuple[Arrival, Opened]]:
        """The next batch; empty when there will be none."""
        while True:
            try:
                batch = [self._arrivals.get(timeout=_LOOK_SECONDS)]
                break
            except Empty:
                if self._stopping.is_set():
                    return []
        self._stopping.wait(_GATHER_SECONDS)
        while len(batch) < _LARGEST_BATCH:
            try:
                batch.append(self._arrivals.get_nowait())
            except Empty:
                break
        return batch

    def _write_until_done(self, batch: Sequence[tuple[Arrival, Opened]]) -> None:
        synced = self._synced(batch)
        while synced:
            try:
                self._write(synced)
                return
            except StoreUnavailable as error:
                logger.error("%d received instances wait for the store: %s", len(synced), error)
                if self._stopping.wait(_RETRY_SECONDS):
                    return
            except (SQLAlchemyError, sqlite3.Error) as error:
                # One of them cannot be written: the others shall not wait for it.
                if len(synced) == 1:
                    logger.error("a received instance cannot be indexed: %s", type(error).__name__)
                    return
                for one in synced:
                    self._write_until_done([one])
                return

    def _synced(self, batch: Sequence[tuple[Arrival, Opened]]) -> list[tuple[Arrival, Opened]]:
        """Those that are on the disk now; the others are left to a rescan, which looks at every byte."""
        try:
            self._spool.sync([arrival.path for arrival, _ in batch])
            return list(batch)
        except (OSError, SpoolError) as error:
            if len(batch) > 1:
                return [one for each in batch for one in self._synced([each])]
            logger.error("a received file could not be synced and is not indexed: %s", error)
            return []

    def _write(self, batch: Sequence[tuple[Arrival, Opened]]) -> None:
        new = {association.id: association for _, association in batch if association.id not in self._opened}
        recorded = enter(self._store, [arrival for arrival, _ in batch], list(new.values()))
        with self._changed:
            self._opened.update(new)
        for (arrival, _), what in zip(batch, recorded, strict=True):
            if what is Recorded.CORRECTED:
                self._spool.mark_latest(arrival.path)

    def _done(self, association_ids: Sequence[str]) -> None:
        with self._changed:
            self._unwritten.subtract(association_ids)
            self._unwritten += Counter()  # drops what is zero
            ended = [each for each in dict.fromkeys(association_ids) if not self._unwritten[each]]
            endings = [self._endings.pop(each) for each in ended if each in self._endings]
        for then in endings:
            then()
