"""Whose turn it is to write to an SQLite file, among threads and processes of this machine.

SQLite lets waiting writers poll at growing intervals, so that under load whoever has waited longest is the least likely
to get in: with five busy processes a writer was seen to wait ten seconds. Here all waiters poll alike, so that each has
the same chance every time. It only orders the queue; what keeps two writers apart is SQLite's own lock.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.errors import StoreMisused, StoreUnavailable

# A commit that waits for no disk takes some 0.1 ms: who looks seldom leaves the file idle meanwhile.
_POLL_SECONDS = 0.0002


class Turnstile:
    """Lets one writer through at a time.

    Parameters
    ----------
    path : Path
        Lock file, made where it is missing. The system releases the lock of a process that dies.
    timeout_seconds : float
        Longest wait.
    """

    def __init__(self, path: Path, *, timeout_seconds: float) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._among_threads = threading.Lock()
        self._inside: int | None = None
        self._file: int | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn, and keep it until the block ends.

        Raises
        ------
        StoreUnavailable
            The wait was too long, or the lock file cannot be opened.
        StoreMisused
            This thread has the turn already.
        """
        me = threading.get_ident()
        if self._inside == me:
            raise StoreMisused("a write transaction was begun inside another one of the same thread")
        deadline = time.monotonic() + self._timeout_seconds
        if not self._among_threads.acquire(timeout=self._timeout_seconds):
            raise self._too_long()
        try:
            self._lock(deadline)
            self._inside = me
            try:
                yield
            finally:
                self._inside = None
                fcntl.flock(self._opened(), fcntl.LOCK_UN)
        finally:
            self._among_threads.release()

    def close(self) -> None:
        """Close the lock file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, deadline: float) -> None:
        file = self._opened()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise self._too_long() from None
                time.sleep(_POLL_SECONDS)

    def _opened(self) -> int:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise StoreUnavailable(f"{self._path.name} cannot be opened: {error.strerror}") from error
        return self._file

    def _too_long(self) -> StoreUnavailable:
        return StoreUnavailable(f"no turn to write within {self._timeout_seconds:g} s")
