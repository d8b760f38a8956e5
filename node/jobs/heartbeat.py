"""Renews a job's lease while somebody works on it."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from node import log
from node.archive.engine import Store
from node.errors import StoreUnavailable
from node.jobs import queue
from node.jobs.queue import LeasedJob

_LOG = log.logger("dispatcher")
_LONGEST_INTERVAL_SECONDS = 2.0


class Heartbeat:
    """A thread that renews the lease, three times within each lease time at least, for the length of a ``with`` block.

    Attributes
    ----------
    lost : bool
        The job was cancelled or given to somebody else, or the store was away for longer than the lease: stop working.
    """

    def __init__(self, store: Store, job: LeasedJob, owner: str, lease_seconds: float) -> None:
        self.lost = False
        self._store = store
        self._job = job
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._done = threading.Event()
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{job.id}", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        # Not rarer than every two seconds: this is also how a cancelled run hears of it.
        while not self._done.wait(min(_LONGEST_INTERVAL_SECONDS, self._lease_seconds / 3)):
            try:
                with self._store.write() as connection:
                    ours = queue.heartbeat(
                        connection, time.time(), self._job.id, self._owner, lease_seconds=self._lease_seconds
                    )
            except StoreUnavailable as error:
                log.say(_LOG, 30, "the lease could not be renewed", job=self._job.id, error=str(error))
                ours = time.monotonic() - self._renewed < self._lease_seconds
            else:
                self._renewed = time.monotonic()
            if not ours:
                self.lost = True
                return
