"""Making the content of several files durable for the price of little more than one.

``fsync`` of one file after the other has a journalling file system find room for each, write it and commit its journal
each time. Where the kernel has begun to write all of them, the first ``fsync`` commits for all, and the others find that
there is nothing left to wait for but the disk's own cache.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache

_SYNC_FILE_RANGE_WRITE = 2
# Beside the connections and files of as many associations as are usual, below the usual limit of 1024.
OPEN_AT_ONCE = 64


def sync_files(paths: Sequence[str]) -> None:
    """Wait until the content of every file is on the disk.

    Parameters
    ----------
    paths : sequence of str
        At most :data:`OPEN_AT_ONCE`, as all are open at once.

    Raises
    ------
    OSError
        One of them cannot be opened or synced; of the others nothing is known.
    """
    handles: list[int] = []
    try:
        for path in paths:
            handles.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        if len(handles) > 1:
            for handle in handles:
                _begin_to_write(handle)
        for handle in handles:
            os.fsync(handle)
    finally:
        for handle in handles:
            os.close(handle)


def _begin_to_write(handle: int) -> None:
    """Have the kernel write a file out, and do not wait. What comes of it is for ``fsync`` to say."""
    call = _sync_file_range()
    if call is not None:
        call(handle, 0, 0, _SYNC_FILE_RANGE_WRITE)


@lru_cache(maxsize=1)
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """The system call of that name (Linux); None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return call
