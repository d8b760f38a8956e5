"""Which associations in the index still have a process that serves them, over all processes of a node.

Each process holds a lock for each association that it has entered. The kernel gives a lock back when its process dies,
however it dies, so that whoever starts afterwards knows which associations ended with it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import IO

# Linux's locks of an open file description: two files opened exclude each other within one process too.
_SET_LOCK = getattr(fcntl, "F_OFD_SETLK", None)
_GET_LOCK = getattr(fcntl, "F_OFD_GETLK", None)
_FLOCK = struct.Struct("hhqqi4x")


class LiveAssociations:
    """Locks of one process. Safe to share between threads.

    Parameters
    ----------
    path : Path
        The same for every process; made if need be. On a system without locks of this kind nothing is ever gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._held: dict[str, IO[bytes]] = {}

    def hold(self, association_id: str) -> None:
        """Say that this process serves an association. Before it is entered into the index."""
        if _SET_LOCK is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._path.open("ab", buffering=0)
        try:
            fcntl.fcntl(file, _SET_LOCK, _lock(association_id, fcntl.F_WRLCK))
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        with self._guard:
            self._held[association_id] = file

    def let_go(self, association_id: str) -> None:
        """It is over, and its end is in the index; nothing happens where it is not held."""
        with self._guard:
            file = self._held.pop(association_id, None)
        if file is not None:
            file.close()

    def gone(self, association_ids: Iterable[str]) -> list[str]:
        """Those that nobody serves any more."""
        if _GET_LOCK is None or not self._path.exists():
            return [] if _GET_LOCK is None else list(association_ids)
        with self._path.open("r+b", buffering=0) as file:
            return [each for each in association_ids if _is_free(file, each)]


def _is_free(file: IO[bytes], association_id: str) -> bool:
    answer = fcntl.fcntl(file, _GET_LOCK or 0, _lock(association_id, fcntl.F_WRLCK))
    return bool(_FLOCK.unpack(answer)[0] == fcntl.F_UNLCK)


def _lock(association_id: str, kind: int) -> bytes:
    """A lock on the one byte that stands for an association; the file has no bytes and need not."""
    at = int.from_bytes(hashlib.blake2b(association_id.encode(), digest_size=7).digest(), "big")
    return _FLOCK.pack(kind, os.SEEK_SET, at, 1, 0)
