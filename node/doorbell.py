"""Doorbells: tell another process of this machine that there is news, without saying what.

A bell is a Unix datagram socket in a folder, one file for each process that listens, so several listeners of one name
all hear. Ringing never waits and never fails: who does not hear finds the news at the next poll. One ring or many
before somebody looks are the same.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCHEDULER = "scheduler"
DISPATCHER = "dispatcher"
SENDER = "sender"
NOTIFIER = "notifier"
PERFORMER = "performer"

_SUFFIX = ".bell"
# Room for the longest name in sun_path (108 bytes on Linux, 104 elsewhere).
_LONGEST_ADDRESS = 100


class Doorbell:
    """One listener.

    Parameters
    ----------
    folder : Path
        Folder of the bells, made where it is missing.
    name : str
        What is listened for.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._socket: socket.socket | None = None

    @contextmanager
    def listen(self) -> Iterator[Doorbell]:
        """Hear rings from now on, until the block ends. Look for work after entering: earlier rings are gone."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._folder / f"{self._name}.{os.getpid()}.{uuid.uuid4().hex[:8]}{_SUFFIX}"
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            bell.setblocking(False)
            with _address(file) as address:
                bell.bind(address)
            self._socket = bell
            yield self
        finally:
            self._socket = None
            bell.close()
            file.unlink(missing_ok=True)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for a ring; True when there was one since the last call, at once if it is there already."""
        if self._socket is None:
            raise RuntimeError("a doorbell is waited for only inside listen()")
        # poll, because select() fails in a process with more than 1024 open files.
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(max(0, round(timeout_seconds * 1000))):
            return False
        while True:
            try:
                self._socket.recv(16)
            except BlockingIOError:
                return True


def ring(folder: Path, name: str) -> None:
    """Ring every bell of this name. Never waits, never raises because nobody listens."""
    bells = [folder / file for file in _files(folder) if file.startswith(f"{name}.") and file.endswith(_SUFFIX)]
    if not bells:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hand:
        hand.setblocking(False)
        for bell in bells:
            _ring_one(hand, bell)


def _files(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - asked for every image; a path object costs more than the ringing
    except (FileNotFoundError, NotADirectoryError):
        return []


def _ring_one(hand: socket.socket, bell: Path) -> None:
    try:
        with _address(bell) as address:
            hand.sendto(b"", address)
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            # Its process died without cleaning up. Names are never used twice, so nobody else can be meant.
            bell.unlink(missing_ok=True)
        elif error.errno not in (errno.EAGAIN, errno.ENOBUFS, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTSOCK):
            # EAGAIN: the listener has unheard rings. ENOENT: it left in this moment. Others: not ours to ring.
            raise


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Socket address of a path; by way of the folder's descriptor where the path is too long for one."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)
