"""The file of users: names with hashed passcodes, made by ``ainode passcode``. No DICOM here.

One line for each user: ``name:scrypt:N:r:p:salt:hash``, salt and hash in base64; ``#`` begins a comment.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from node.errors import UsersUnusable
from node.file_state import file_state

logger = logging.getLogger(__name__)

# 16 MiB and some 40 ms for each try: a stolen file is dear to guess from, a login is not.
_COST, _BLOCK, _PARALLEL = 16384, 8, 1
_MAXIMUM_COST = 1 << 17
_MEMORY_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class _Hash:
    cost: int
    block: int
    parallel: int
    salt: bytes
    hashed: bytes

    @classmethod
    def parse(cls, text: str) -> _Hash:
        kind, cost, block, parallel, salt, hashed = text.split(":")
        if kind != "scrypt" or not 2 <= int(cost) <= _MAXIMUM_COST:
            raise ValueError(kind)
        decode = base64.b64decode
        return cls(int(cost), int(block), int(parallel), decode(salt, validate=True), decode(hashed, validate=True))

    def fits(self, passcode: bytes) -> bool:
        return hmac.compare_digest(_scrypt(passcode, self.salt, self.cost, self.block, self.parallel), self.hashed)


# Compared with where a name is unknown, so that the time taken does not tell who exists.
_NOBODY = _Hash(_COST, _BLOCK, _PARALLEL, bytes(16), bytes(32))


class Users:
    """The file of users, read again when it has changed.

    Parameters
    ----------
    path : Path

    Raises
    ------
    UsersUnusable
        It cannot be read, or a line is not understood. Later the former users stay, and the log says so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._read_at = file_state(path)
        self._users = _read(path)

    def accepts(self, name: str, passcode: bytes) -> bool:
        """Whether there is a user of this name and this is the passcode."""
        # One at a time: each takes a core and 16 MiB.
        with self._guard:
            self._follow()
            known = self._users.get(name)
            fits = (known or _NOBODY).fits(passcode)
        return fits and known is not None

    def _follow(self) -> None:
        state = file_state(self._path)
        if state == self._read_at:
            return
        self._read_at = state
        try:
            self._users = _read(self._path)
        except UsersUnusable as error:
            logger.error("%s; the former users stay", error)


def line_for(name: str, passcode: str) -> str:
    """A line of the file of users.

    Raises
    ------
    UsersUnusable
        The name cannot stand in it.
    """
    if not name or ":" in name or name.startswith("#") or not name.isprintable() or name != name.strip():
        raise UsersUnusable("a name is printable, without colon, and does not begin with # or a space")
    salt = os.urandom(16)
    hashed = _scrypt(passcode.encode(), salt, _COST, _BLOCK, _PARALLEL)
    coded = ":".join(base64.b64encode(part).decode() for part in (salt, hashed))
    return f"{name}:scrypt:{_COST}:{_BLOCK}:{_PARALLEL}:{coded}"


def read_passcode(path: Path) -> bytes:
    """The passcode for a destination: the file's first line.

    Raises
    ------
    UsersUnusable
        It cannot be read, or is empty.
    """
    try:
        first = path.read_bytes().partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise UsersUnusable(f"passcode_file: {path} cannot be read ({error.strerror})") from error
    if not first:
        raise UsersUnusable(f"passcode_file: the first line of {path} is empty")
    return first


def _read(path: Path) -> dict[str, _Hash]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsersUnusable(f"receive.users: {path} cannot be read ({why})") from error
    users: dict[str, _Hash] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        try:
            users[name] = _Hash.parse(rest)
        except (ValueError, binascii.Error) as error:
            raise UsersUnusable(f"receive.users: line {number} of {path} is not name:scrypt:N:r:p:salt:hash") from error
    return users


def _scrypt(passcode: bytes, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(passcode, salt=salt, n=cost, r=block, p=parallel, maxmem=_MEMORY_BYTES, dklen=32)
