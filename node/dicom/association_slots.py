"""The number of associations held at the same time, over all receiver processes of a node.

Each association holds a lock on one byte of a file. The kernel gives a lock back when its process dies, however it
dies: a count kept anywhere else would go wrong with the first ``kill -9``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from pathlib import Path

# Linux's locks of an open file description: two files opened exclude each other within one process too.
_SET_LOCK = getattr(fcntl, "F_OFD_SETLK", None)


class AssociationSlots:
    """So many slots, shared by every process that opens the same file.

    Parameters
    ----------
    path : Path
        Made if need be. On a system without locks of this kind each process counts for itself.
    count : int
    """

    def __init__(self, path: Path, count: int) -> None:
        self._count = count
        self._held: dict[str, int] = {}
        self._free = list(range(count - 1, -1, -1))
        self._guard = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, holder: str) -> bool:
        """Hold a slot for ``holder``, a name of its own; False when all are taken."""
        with self._guard:
            # Ours are tried first that we had last: with one process, and mostly with several, the first try succeeds.
            for at in range(len(self._free) - 1, -1, -1):
                if self._lock(self._free[at], fcntl.F_WRLCK):
                    self._held[holder] = self._free.pop(at)
                    return True
            return False

    def release(self, holder: str) -> None:
        """Give the slot of ``holder`` back; nothing happens where it holds none."""
        with self._guard:
            slot = self._held.pop(holder, None)
            if slot is not None:
                self._lock(slot, fcntl.F_UNLCK)
                self._free.append(slot)

    def close(self) -> None:
        """Give everything back."""
        with self._guard:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
                self._free.clear()
                self._held.clear()

    def _lock(self, slot: int, kind: int) -> bool:
        if _SET_LOCK is None or self._file < 0:
            return True
        try:
            fcntl.fcntl(self._file, _SET_LOCK, struct.pack("hhqqi4x", kind, os.SEEK_SET, slot, 1, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True
