"""Associations per minute, over all receiver processes of a node.

A small file, mapped into every process, holds for each key the time at which its allowance will be whole again (the
generic cell rate algorithm: one number instead of a list of times). A process that dies in the midst of it leaves at
worst one wrong time, which is bounded when read.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_RECORD = struct.Struct("=8sd")
_RECORDS = 4096
# A key lies in one of so many neighbouring records; when all are in use, the one that is free soonest makes room.
_PROBES = 8
_MINUTE = 60.0


class RateLimit:
    """How often something may happen, by key.

    Parameters
    ----------
    path : Path
        Made if need be.
    clock : callable
        Seconds that all processes of the machine agree on.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = _RECORDS * _RECORD.size
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)
        self._table = mmap.mmap(self._file, size)

    def allows(self, key: str, per_minute: int) -> bool:
        """Count one more for ``key`` if it is within ``per_minute``, all of which may come at once; 0 sets no limit."""
        if per_minute <= 0:
            return True
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        with self._locked():
            if self._file < 0:
                return False  # closed: the receiver is stopping
            now = self._clock()
            at, whole_at = self._find(digest, now)
            whole_at = max(whole_at, now) + _MINUTE / per_minute
            # The last of a full minute's allowance makes this exactly one minute; the rest is rounding.
            if whole_at - now > _MINUTE * (1 + 1e-9):
                return False
            _RECORD.pack_into(self._table, at * _RECORD.size, digest, whole_at)
            return True

    def close(self) -> None:
        """Release the file."""
        with self._guard:
            if self._file >= 0:
                self._table.close()
                os.close(self._file)
                self._file = -1

    def _find(self, digest: bytes, now: float) -> tuple[int, float]:
        """Record for a key, and when its allowance is whole."""
        start = int.from_bytes(digest[:4], "big")
        best, best_time = 0, float("inf")
        for probe in range(_PROBES):
            at = (start + probe) % _RECORDS
            found, whole_at = _RECORD.unpack_from(self._table, at * _RECORD.size)
            # No allowance is further away than a minute: the clock began anew with the machine, or the record is torn.
            if not now <= whole_at <= now + _MINUTE * 1.001:
                whole_at = now
            if found == digest:
                return at, whole_at
            if whole_at < best_time:
                best, best_time = at, whole_at
        return best, now

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._guard:
            if self._file < 0:
                yield
                return
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
