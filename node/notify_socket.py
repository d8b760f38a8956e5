"""Where our supervisor hears its processes: the listening side of ``sd_notify(3)``."""

from __future__ import annotations

import os
import socket
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid (unix(7), SCM_CREDENTIALS)
_LONGEST_ADDRESS = 100
_LONGEST_MESSAGE = 4096


class NotifySocket:
    """Hears the messages of processes of this machine, each with the process id that the kernel vouches for.

    Parameters
    ----------
    folder : Path
        Of sockets and locks.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "notify.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.address = str(self._path)
        if len(os.fsencode(self.address)) > _LONGEST_ADDRESS:
            # Addresses of Unix sockets have 107 bytes.
            self.address = f"@ainode-{uuid.uuid4().hex}"

    def __enter__(self) -> Self:
        if self.address.startswith("@"):
            self._socket.bind(f"\0{self.address[1:]}")
            return self
        self._path.unlink(missing_ok=True)
        self._socket.bind(self.address)
        self._path.chmod(0o600)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def heard(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Process id and assignments of every message that waits; never blocks."""
        while True:
            try:
                message, ancillary, _, _ = self._socket.recvmsg(_LONGEST_MESSAGE, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    pid, uid, _ = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])
                    if uid == os.geteuid():
                        yield pid, _assignments(message)


def _assignments(message: bytes) -> dict[str, str]:
    lines = message.decode(errors="replace").splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines) if key}
