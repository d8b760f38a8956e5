"""The spool: every received instance as one DICOM file, exactly as it came.

``spool/<aa>/<study uid>/<sop uid>-<digest>.dcm``, where ``aa`` spreads studies over 256 folders. A file is written
under ``spool/incoming/<unique>.part``, synced, linked to its name and the folder synced. So a process killed at any
line leaves nothing, a ``.part`` for :meth:`Spool.sweep_parts`, or a complete file that ``index.rescan`` finds.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from node.archive.header_scan import HeaderScan, scan_header
from node.archive.headers import InstanceHeader, read_header
from node.archive.part10 import dataset_offset
from node.archive.placing import NAME_DIGITS, Folders, as_spool_error, checked_uid, link_into_place, sync_file
from node.archive.writeback import OPEN_AT_ONCE, sync_files
from node.errors import SpoolDamaged, SpoolFull

logger = logging.getLogger(__name__)

INCOMING = "incoming"
_ROOM_CHECK_BYTES = 32 * 1024 * 1024
_READ_BYTES = 1024 * 1024
# What of a data set is kept in memory until it is filed: few headers are longer, even with a vendor's private data.
_HEAD_BYTES = 256 * 1024
_FIRST_LOOK_BYTES = 16 * 1024


class Spool:
    """Folder of received instances.

    Parameters
    ----------
    root : Path
        Made where it is missing.
    reserve_bytes : int
        Free space that is never used up.
    """

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        self.root = root
        self.reserve_bytes = reserve_bytes
        # Patient data: for nobody but the node.
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        (root / INCOMING).mkdir(exist_ok=True, mode=0o700)
        sync_file(root.parent)
        self._folders = Folders(root)

    def check_room(self, expected_bytes: int = 0) -> None:
        """Raise SpoolFull where ``expected_bytes`` more would eat into the reserve."""
        state = os.statvfs(self.root)
        free = state.f_bavail * state.f_frsize
        if free - expected_bytes < self.reserve_bytes:
            raise SpoolFull(f"{free} bytes are free, the reserve is {self.reserve_bytes}", free_bytes=free)

    def begin(self) -> Part:
        """Open a new part.

        Raises
        ------
        SpoolFull
            Less than the reserve is free.
        """
        self.check_room()
        return Part(self)

    def absolute(self, relative: str) -> Path:
        """Path of a stored file.

        Raises
        ------
        SpoolDamaged
            The relative path leads out of the spool.
        """
        return Path(self._inside(relative))

    def _inside(self, relative: str) -> str:
        """As :meth:`absolute`, as text: a path object costs more than what is then done with it."""
        if not relative.startswith("/") and ".." not in relative.split("/"):
            return f"{self.root}/{relative}"
        raise SpoolDamaged("the index names a path outside the spool")

    def sync(self, relatives: Collection[str]) -> None:
        """Make files committed with ``sync=False`` durable: content, folder entries, folders."""
        paths = [self._inside(relative) for relative in relatives]
        for begin in range(0, len(paths), OPEN_AT_ONCE):
            sync_files(paths[begin : begin + OPEN_AT_ONCE])
        folders = {relative.rpartition("/")[0] for relative in relatives}
        for folder in sorted(folders):
            sync_file(self._folders.make(folder))

    def mark_latest(self, relative: str) -> None:
        """Note with a stored file that it counts from now on: one that was there before may take back a correction.

        A rescan goes by the files' times. Where it cannot be noted, the index alone knows it.
        """
        path = self._inside(relative)
        try:
            # By the fine clock: the kernel's own stamp moves in ticks of some milliseconds, and two corrections come within one.
            now = time.time_ns()
            os.utime(path, ns=(now, now))
            sync_file(path)
        except OSError as error:
            logger.error("the time of a stored file could not be set (%s)", error.strerror)

    def studies(self) -> Iterator[str]:
        """Folder of every study, relative to the spool."""
        for group in sorted(entry for entry in self.root.iterdir() if len(entry.name) == 2 and entry.is_dir()):
            yield from (f"{group.name}/{study.name}" for study in sorted(group.iterdir()) if study.is_dir())

    def names(self, study: str) -> list[str]:
        """Names of a study's files, in no order; none where the folder has gone."""
        try:
            return [entry.name for entry in os.scandir(self._inside(study)) if entry.name.endswith(".dcm")]
        except FileNotFoundError:
            return []

    def by_age(self, relatives: Iterable[str]) -> list[str]:
        """The same files in the order in which they were last written; without those that have gone."""
        found = []
        for relative in relatives:
            try:
                found.append((self.absolute(relative).stat().st_mtime_ns, relative))
            except FileNotFoundError:  # removed since it was listed
                continue
        return [relative for _, relative in sorted(found)]

    def sweep_parts(self, older_than_seconds: float) -> int:
        """Delete parts nobody has written to for so long, left by a dead process; return how many."""
        swept = 0
        oldest = time.time() - older_than_seconds
        for part in (self.root / INCOMING).glob("*.part"):
            try:
                if part.stat().st_mtime <= oldest:
                    part.unlink()
                    swept += 1
            except FileNotFoundError:  # its owner finished it in this moment
                continue
        return swept


class Part:
    """One instance being received. Not thread-safe.

    Attributes
    ----------
    hash : hashlib hash
        SHA-256 over the data-set bytes so far.
    size : int
        Bytes of the file so far.
    transfer_syntax_uid : str
        Set by whoever writes the file meta information; empty has :meth:`header` read the file.
    scan : callable
        Reads plain headers; whoever receives one instance after the other sets one that remembers.
    """

    def __init__(self, spool: Spool) -> None:
        self.transfer_syntax_uid = ""
        self.scan: HeaderScan = scan_header
        self._header: InstanceHeader | None = None
        self._head = bytearray()
        self._whole = True
        self._spool = spool
        self._since_check = 0
        self.hash = hashlib.sha256()
        self.size = 0
        self._name = f"{spool.root}/{INCOMING}/{os.urandom(16).hex()}.part"
        # Strings and plain system calls: a path object or a buffered file costs as much as receiving a small image.
        self._handle = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._linked = False
        # File meta information goes to the disk together with the first bytes of the data set.
        self._waiting = b""

    @property
    def path(self) -> Path:
        """Where the bytes are meanwhile; complete there after :meth:`flush`."""
        return Path(self._name)

    def write(self, data: bytes) -> None:
        """Append bytes that are not part of the data set: preamble and file meta information.

        Raises
        ------
        SpoolFull
            The disk or its reserve is used up.
        """
        self._account(len(data))
        self._waiting += data

    def write_dataset(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes of the data set.

        Raises
        ------
        SpoolFull
            The disk or its reserve is used up.
        """
        self.hash.update(data)
        self._look_at(data)
        self._account(len(data))
        self._put(data)

    def header(self) -> InstanceHeader:
        """Header of what has arrived, from memory where it is plain, else from the file.

        Raises
        ------
        ObjectRejected
            The bytes are no data set in the transfer syntax.
        SpoolFull
            The disk is full.
        """
        found = self._header or self.scan(bytes(self._head), self.transfer_syntax_uid, whole=self._whole)
        if found is None:
            self.flush()
            found = read_header(self.path)
        return found

    def flush(self) -> None:
        """Make everything written visible to a reader of :attr:`path`."""
        if self._waiting:
            self._put(b"")

    def commit(
        self, study_uid: str, sop_instance_uid: str, digest: str, *, sync: bool = True, into: Spool | None = None
    ) -> str:
        """Give the file its place and return its path relative to the spool.

        When this returns, content and directory entry are on the disk. The same instance with the same digest gives
        the same path, and the file that was there stays; another digest gives another path.

        Parameters
        ----------
        digest : str
            Hex SHA-256 of the data-set bytes.
        sync : bool
            False leaves syncing to :meth:`Spool.sync` (mode ``association``).
        into : Spool or None
            Another spool on the same file system to put it into; None: the one it was begun in.

        Raises
        ------
        ObjectRejected
            A UID is none. The part is still there: discard it.
        SpoolFull
            The disk is full. The part is still there: discard it.
        """
        folder = study_folder(study_uid)
        name = f"{checked_uid(sop_instance_uid, 'SOP Instance UID')}-{digest[:NAME_DIGITS]}.dcm"
        self.flush()
        try:
            if sync:
                os.fsync(self._handle)
            self._close()
            relative = link_into_place(
                self._name,
                (into or self._spool)._folders,
                f"{folder}/{name}",
                same=lambda path: dataset_digest(path) == digest,
                intact=lambda path: dataset_digest(path)[:NAME_DIGITS] == digest[:NAME_DIGITS],
                sync=sync,
            )
        except OSError as error:
            raise as_spool_error(error) from error
        self._linked = True
        self._remove()
        return relative

    def discard(self) -> None:
        """Forget the part. Does nothing after a commit."""
        if self._linked:
            return
        try:
            self._close()
        except OSError:  # the disk fails; the bytes are not wanted
            pass
        self._remove()

    def _look_at(self, data: bytes | bytearray | memoryview) -> None:
        """Find the header in the first bytes, or keep them until there are enough."""
        if self._header is not None:
            return
        if not self._head and self._whole and self.transfer_syntax_uid and len(data) >= _FIRST_LOOK_BYTES:
            # Nearly every header ends here: most of the 256 KiB need never be copied.
            self._header = self.scan(bytes(data[:_FIRST_LOOK_BYTES]), self.transfer_syntax_uid, whole=False)
            if self._header is not None:
                return
        room = _HEAD_BYTES - len(self._head)
        if room >= len(data):
            self._head += data
        else:
            self._whole = False
            self._head += data[:room]

    def _account(self, count: int) -> None:
        """Note that ``count`` more bytes need room, and see now and then whether there is any."""
        self.size += count
        self._since_check += count
        if self._since_check >= _ROOM_CHECK_BYTES:
            self._spool.check_room()
            self._since_check = 0

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        waiting, self._waiting = self._waiting, b""
        left = [memoryview(each) for each in (waiting, data) if len(each)]
        try:
            while left:
                count = os.writev(self._handle, left)
                while left and count >= len(left[0]):
                    count -= len(left.pop(0))
                if left:
                    left[0] = left[0][count:]
        except OSError as error:
            raise as_spool_error(error) from error

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _remove(self) -> None:
        try:
            os.unlink(self._name)  # noqa: PTH108 - see __init__
        except FileNotFoundError:  # swept away, or discarded before
            return


@lru_cache(maxsize=256)
def study_folder(study_uid: str) -> str:
    """Folder of a study, relative to the spool.

    Raises
    ------
    ObjectRejected
        Not a UID.
    """
    uid = checked_uid(study_uid, "Study Instance UID")
    return f"{hashlib.sha256(uid.encode('ascii')).hexdigest()[:2]}/{uid}"


def dataset_digest(path: Path) -> str:
    """Hex SHA-256 of a stored file's data-set bytes; empty where the file is damaged."""
    try:
        offset = dataset_offset(path)
    except SpoolDamaged:
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        stream.seek(offset)
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
