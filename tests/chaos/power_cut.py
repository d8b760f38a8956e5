"""A disk that keeps only what was synced: replays recorded system calls and gives the states a power cut may leave.

POSIX promises nothing about what was not synced, neither about a file's content nor about its name in a folder. Three
states stand for everything in between: nothing unsynced survived; every name survived, and no unsynced content; a
random choice of names, and of the 512-byte sectors of unsynced writes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.chaos.tracing import Call

SECTOR_BYTES = 512
_DONE = b"\x00\x00\x00\x01\x02\x00\x00\x00\x01\x80"  # (0000,0100): C-STORE-RSP
_SUCCESS = b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00"  # (0000,0900): 0000
_MESSAGE_ID = b"\x00\x00\x20\x01\x02\x00\x00\x00"  # (0000,0120)


class Loss(StrEnum):
    """What of the unsynced is lost."""

    EVERYTHING = "everything unsynced"
    CONTENT = "unsynced content; names stay"
    RANDOM = "random sectors and names"
    NOTHING = "nothing (the process dies)"


@dataclass(slots=True)
class _File:
    folder: bool = False
    live: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    # Writes since the last sync: offset and content, or a new size.
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)

    def write(self, offset: int, content: bytes) -> None:
        _put(self.live, offset, content)
        self.pending.append((offset, content))

    def resize(self, size: int) -> None:
        _resize(self.live, size)
        self.pending.append(size)

    def sync(self) -> None:
        self.synced = bytes(self.live)
        self.pending.clear()

    def torn(self, dice: random.Random) -> bytes:
        """The synced content with some sectors of some later writes."""
        content = bytearray(self.synced)
        for change in self.pending:
            if isinstance(change, int):
                if dice.random() < 0.5:
                    _resize(content, change)
                continue
            offset, written = change
            first = offset - offset % SECTOR_BYTES
            for sector in range(first, offset + len(written), SECTOR_BYTES):
                begin, end = max(sector, offset), min(sector + SECTOR_BYTES, offset + len(written))
                if dice.random() < 0.5:
                    _put(content, begin, written[begin - offset : end - offset])
        return bytes(content)


class Disk:
    """Files below a folder, live and synced.

    Parameters
    ----------
    root : Path
        Calls elsewhere are of no interest.
    synced : dict
        Relative path → content (None: folder) that was on the disk long before.
    """

    def __init__(self, root: Path, synced: dict[str, bytes | None]) -> None:
        self._root = str(root)
        self._live: dict[str, _File] = {}
        self._names: dict[str, _File] = {}
        self._positions: dict[int, int] = {}
        self.acknowledged: list[int] = []
        for path, content in synced.items():
            file = _File(folder=content is None, live=bytearray(content or b""), synced=content or b"")
            self._live[path] = self._names[path] = file

    def found(self, current: dict[str, bytes | None]) -> None:
        """What the process had made before the recording began: live, and not synced."""
        for path, content in current.items():
            if path not in self._live:
                self._live[path] = _File(folder=content is None)
            if content is not None and bytes(self._live[path].live) != content:
                self._live[path].resize(0)
                self._live[path].write(0, content)

    def apply(self, call: Call) -> bool:
        """Carry out one call; whether it could matter to what a power cut leaves.

        Raises
        ------
        NotImplementedError
            A call on our files that this model does not know.
        """
        if call.name in {"sendto", "sendmsg", "write", "writev"} and call.path.startswith("TCP"):
            return self._sent(call)
        path = self._relative(call.path)
        names = [name for name in (self._relative(text.decode(errors="replace")) for text in call.strings) if name]
        if path is None and not (call.name in _BY_NAME and names) and call.name != "sync":
            return False
        action: Callable[[Call, str, list[str]], bool] | None = getattr(self, f"_{call.name}", None)
        if action is None:
            raise NotImplementedError(f"{call.name} on {path or names}")
        return action(call, path or "", names)

    def after(self, loss: Loss, dice: random.Random) -> dict[str, bytes | None]:
        """Relative path → content (None: folder) of what lies on the disk when the power comes back."""
        match loss:
            case Loss.EVERYTHING:
                names, content = self._names, lambda file: file.synced
            case Loss.CONTENT:
                names, content = self._live, lambda file: file.synced
            case Loss.NOTHING:
                names, content = self._live, lambda file: bytes(file.live)
            case Loss.RANDOM:
                names, content = self._some_names(dice), lambda file: file.torn(dice)
        left: dict[str, bytes | None] = {}
        for path in sorted(names, key=lambda name: name.count("/")):
            folder = path.rpartition("/")[0]
            # A name in a folder that is not there is not there either. SQLite's index of its log is memory only.
            if (folder and folder not in left) or path.endswith("-shm"):
                continue
            left[path] = None if names[path].folder else content(names[path])
        return left

    def _some_names(self, dice: random.Random) -> dict[str, _File]:
        chosen: dict[str, _File] = {}
        for path in sorted({*self._live, *self._names}):
            source = self._live if dice.random() < 0.5 else self._names
            if path in source:
                chosen[path] = source[path]
        return chosen

    def _relative(self, path: str) -> str | None:
        if path.endswith("(deleted)"):
            return None
        if path == self._root:
            return "."
        return path[len(self._root) + 1 :] if path.startswith(f"{self._root}/") else None

    def _sent(self, call: Call) -> bool:
        before = len(self.acknowledged)
        for content in call.strings:
            if _DONE in content and _SUCCESS in content:
                at = content.index(_MESSAGE_ID) + len(_MESSAGE_ID)
                number = int.from_bytes(content[at : at + 2], "little")
                if number not in self.acknowledged:
                    self.acknowledged.append(number)
        return len(self.acknowledged) > before

    # -- one method for each call, by its name ------------------------------------------------------------------------

    def _openat(self, call: Call, path: str, names: list[str]) -> bool:
        self._positions[call.handle] = 0
        if "O_CREAT" in call.arguments and path not in self._live:
            self._live[path] = _File()
            return True
        if "O_TRUNC" in call.arguments:
            self._live[path].resize(0)
            return True
        return False

    _open = _openat

    def _close(self, call: Call, path: str, names: list[str]) -> bool:
        return False

    def _lseek(self, call: Call, path: str, names: list[str]) -> bool:
        self._positions[call.handle] = call.result
        return False

    def _write(self, call: Call, path: str, names: list[str]) -> bool:
        offset = self._positions.get(call.handle, 0)
        content = b"".join(call.strings)[: call.result]
        assert len(content) == call.result, "the recording lacks content"
        self._live[path].write(offset, content)
        self._positions[call.handle] = offset + call.result
        return True

    _writev = _write

    def _pwrite64(self, call: Call, path: str, names: list[str]) -> bool:
        offset = int(call.arguments.rpartition(",")[2])
        assert len(call.strings[-1]) >= call.result, "the recording lacks content"
        self._live[path].write(offset, call.strings[-1][: call.result])
        return True

    def _ftruncate(self, call: Call, path: str, names: list[str]) -> bool:
        self._live[path].resize(int(call.arguments.rpartition(",")[2]))
        return True

    def _fallocate(self, call: Call, path: str, names: list[str]) -> bool:
        offset, length = (int(number) for number in re.findall(r"\d+", call.arguments.rpartition(">")[2])[-2:])
        self._live[path].resize(max(len(self._live[path].live), offset + length))
        return True

    def _fsync(self, call: Call, path: str, names: list[str]) -> bool:
        file = self._live.get(path)
        if file is not None and not file.folder:
            file.sync()
            return True
        for name in [name for name in self._names if _folder_of(name) == path and name not in self._live]:
            del self._names[name]
        self._names.update({name: file for name, file in self._live.items() if _folder_of(name) == path})
        return True

    _fdatasync = _fsync

    def _sync_file_range(self, call: Call, path: str, names: list[str]) -> bool:
        # Writing out is only begun: it promises nothing (sync_file_range(2), "Some details").
        return False

    def _syncfs(self, call: Call, path: str, names: list[str]) -> bool:
        self._names = dict(self._live)
        for file in self._live.values():
            file.sync()
        return True

    _sync = _syncfs

    def _link(self, call: Call, path: str, names: list[str]) -> bool:
        self._live[names[1]] = self._live[names[0]]
        return True

    _linkat = _link

    def _rename(self, call: Call, path: str, names: list[str]) -> bool:
        self._live[names[1]] = self._live.pop(names[0])
        return True

    _renameat = _renameat2 = _rename

    def _unlink(self, call: Call, path: str, names: list[str]) -> bool:
        del self._live[names[0]]
        return True

    _unlinkat = _rmdir = _unlink

    def _mkdir(self, call: Call, path: str, names: list[str]) -> bool:
        self._live[names[0]] = _File(folder=True)
        return True

    _mkdirat = _mkdir


_BY_NAME = frozenset(
    [
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "rmdir",
        "mkdir",
        "mkdirat",
        "truncate",
    ]
)


def tree(root: Path) -> dict[str, bytes | None]:
    """Relative path → content (None: folder) of everything below a folder, sockets left out."""
    found: dict[str, bytes | None] = {}
    for path in sorted(root.rglob("*")):
        if path.is_dir():
            found[str(path.relative_to(root))] = None
        elif path.is_file():
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def write_tree(root: Path, content: dict[str, bytes | None]) -> None:
    """Make a folder that holds exactly this."""
    root.mkdir(parents=True)
    for path, data in content.items():
        if data is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(data)


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _put(content: bytearray, offset: int, written: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(written)] = written


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))
