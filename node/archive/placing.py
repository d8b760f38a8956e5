"""Putting a finished file into place so that it is wholly there or not at all, and never over another one."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

from node.errors import ObjectRejected, SpoolDamaged, SpoolFull

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

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
    if len(value) > 64 or not _UID.fullmatch(value):
        raise ObjectRejected(f"{what} is not a UID (PS3.5 9.1)", length=len(value))
    return value


def sync_file(path: Path) -> None:
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
        self.root = root
        self._synced: set[tuple[str, int]] = set()

    def make(self, relative: str, *, sync: bool = True) -> Path:
        """Return the absolute folder, made where it was missing."""
        folder = self.root / relative
        folder.mkdir(parents=True, exist_ok=True)
        if sync:
            for level in [folder, *folder.parents][: len(Path(relative).parts)]:
                self._sync_entry(level)
        return folder

    def _sync_entry(self, folder: Path) -> None:
        known = (str(folder), folder.stat().st_ino)
        if known not in self._synced:
            sync_file(folder.parent)
            if len(self._synced) > 10_000:
                self._synced.clear()
            self._synced.add(known)


def link_into_place(
    source: Path,
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
    wanted = Path(relative)
    for attempt in range(100):
        name = wanted.name if attempt == 0 else f"{wanted.stem}-{attempt}{wanted.suffix}"
        folder = folders.make(str(wanted.parent), sync=sync)
        target = folder / name
        try:
            os.link(source, target)
        except FileNotFoundError:
            if not source.exists():
                raise
            continue  # somebody removed the empty folder in between: make it again
        except FileExistsError:
            if same(target):
                if sync:  # whoever linked it may not have come to this yet
                    sync_file(target)
                    sync_file(folder)
                return str(wanted.with_name(name))
            if intact(target):
                continue
            target.rename(target.with_name(f"{name}.{source.stem}.damaged"))
            try:
                os.link(source, target)
            except FileExistsError:
                continue
        if sync:
            sync_file(folder)
        return str(wanted.with_name(name))
    raise SpoolDamaged("no free name for a file", name=wanted.name)
