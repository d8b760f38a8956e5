"""Putting a finished file into place so that it is wholly there or not at all, and never over another one."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from node.errors import ObjectRejected, SpoolDamaged, SpoolFull

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_ATTEMPTS = 100
NAME_DIGITS = 12
"""Leading hex digits of the digest in a file name; enough to keep copies of one instance apart."""


def checked_uid(value: str, what: str) -> str:
    """Return ``value`` where it is a UID and so may become part of a path.

    Components with leading zeros are let through: PS3.5 9.1 forbids them and real devices send them.

    Raises
    ------
    ObjectRejected
        Empty, longer than 64 characters, or anything but digits and single dots.
    """
    if len(value) > 64 or not _is_uid(value):
        raise ObjectRejected(f"{what} is not a UID (PS3.5 9.1)", length=len(value))
    return value


@lru_cache(maxsize=1024)
def _is_uid(value: str) -> bool:
    """Those of a study, a series and a kind of object are asked about again with every image."""
    return _UID.fullmatch(value) is not None


def sync_file(path: str | Path) -> None:
    """Wait until the file's (or folder's) content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def as_spool_error(error: OSError) -> Exception:
    """SpoolFull where the disk is full, else the error itself."""
    if error.errno in _NO_SPACE:
        return SpoolFull(f"the disk is full: {error.strerror}")
    return error


class Folders:
    """Makes folders whose entries are on the disk before anything in them counts.

    Remembers which folders it has synced, by inode, so that a folder deleted and made anew by someone else is synced
    again.
    """

    def __init__(self, root: Path) -> None:
        # Text: it begins the name of every file that is put into place.
        self.root = str(root)
        self._synced: set[tuple[str, int]] = set()

    def make(self, relative: str, *, sync: bool = True) -> Path:
        """Return the absolute folder, made where it was missing."""
        folder = Path(self.root, relative)
        folder.mkdir(parents=True, exist_ok=True)
        if sync:
            for level in self._levels(relative):
                self._sync_entry(level)
        return folder

    def ensure(self, relative: str) -> None:
        """As :meth:`make` with syncing; cheap where the folder is known."""
        try:
            if all((level, _inode(level)) in self._synced for level in self._levels(relative)):
                return
        except FileNotFoundError:
            pass  # not yet there, or removed: made now
        self.make(relative)

    def _levels(self, relative: str) -> list[str]:
        """The folder and those above it, below the root; deepest first."""
        parts = relative.split("/")
        return [f"{self.root}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1)]

    def _sync_entry(self, folder: str) -> None:
        known = (folder, _inode(folder))
        if known not in self._synced:
            sync_file(Path(folder).parent)
            if len(self._synced) > 10_000:
                self._synced.clear()
            self._synced.add(known)


def _inode(folder: str) -> int:
    return os.stat(folder).st_ino  # noqa: PTH116 - asked for every instance; a path object costs more than the answer


def link_into_place(
    source: str | Path,
    folders: Folders,
    relative: str,
    *,
    same: Callable[[Path], bool],
    intact: Callable[[Path], bool],
    sync: bool = True,
) -> str:
    """Give ``source`` its final name and return it, relative to the root of ``folders``.

    ``source`` must be synced and on the same file system; its old name stays, the caller removes it. When the call
    returns, the new entry is on the disk, unless ``sync`` is False.

    Parameters
    ----------
    relative : str
        Wanted name, with a suffix.
    same : callable
        Whether a file that already has the name has the same content; then nothing is done.
    intact : callable
        Whether it at least has the content that its name promises. What is not (a file torn by a power cut) makes
        room under the suffix ``.damaged``; what is gets a neighbour with a counted name.

    Raises
    ------
    SpoolDamaged
        No name was free.
    """
    parent, _, wanted = relative.rpartition("/")
    stem, _, suffix = wanted.rpartition(".")
    neighbours = 0
    for _ in range(_ATTEMPTS):
        name = f"{stem}-{neighbours}.{suffix}" if neighbours else wanted
        target = f"{folders.root}/{parent}/{name}"
        try:
            if sync:
                folders.ensure(parent)
            os.link(source, target)
        except FileNotFoundError:
            if not Path(source).exists():
                raise
            folders.make(parent, sync=sync)  # new, or somebody removed the empty folder in between
            continue
        except FileExistsError:
            there = Path(target)
            if same(there):
                if sync:  # whoever linked it may not have come to this yet
                    sync_file(there)
                    sync_file(there.parent)
                return f"{parent}/{name}"
            if intact(there):
                neighbours += 1
                continue
            there.rename(there.with_name(f"{name}.{Path(source).stem}.damaged"))
            continue
        if sync:
            sync_file(f"{folders.root}/{parent}")
        return f"{parent}/{name}"
    raise SpoolDamaged("no free name for a file", name=wanted)
