"""An association's connection with a buffer in front, and with waiting where pynetdicom polls."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from queue import Queue
from typing import Any

from pynetdicom.association import Association

from node.dicom.connection import PeerSocket

BUFFER_BYTES = 256 * 1024
_ROOM_BYTES = 64 * 1024
# Who waits looks up this often, for what nobody tells: timers that ran out, a thread told to end.
TICK_SECONDS = 0.1
_PAUSE_SECONDS = 0.001
_CLOSING = "Sta13"


class LaneSocket(PeerSocket):
    """Reads as much as there is into a buffer of fixed size; pynetdicom's own reading takes from the same buffer.

    An open connection becomes one by :meth:`take_over`.

    Attributes
    ----------
    view : memoryview
        The buffer; ``view[start:end]`` is what arrived and nobody has read.
    """

    view: memoryview
    start: int
    end: int
    _wake: int
    _number: int
    _poll: select.poll
    _guard: threading.Lock

    @classmethod
    def take_over(cls, association: Association) -> LaneSocket:
        """Turn an association's connection into one of this class, before anything was read from it."""
        wrapper: Any = association.dul.socket
        wrapper.__class__ = cls
        wrapper.view = memoryview(bytearray(BUFFER_BYTES))
        wrapper.start = wrapper.end = 0
        wrapper._guard = threading.Lock()
        wrapper._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # poll, because select() fails in a process with more than 1024 open files.
        wrapper._number = wrapper.socket.fileno()
        wrapper._poll = select.poll()
        wrapper._poll.register(wrapper._number, select.POLLIN)
        wrapper._poll.register(wrapper._wake, select.POLLIN)
        adopted: LaneSocket = wrapper
        return adopted

    @property
    def ready(self) -> bool:
        """Whether something can be read; waits up to :data:`TICK_SECONDS` for it, or for :meth:`wake`."""
        if self.end > self.start:
            return not self.is_foreign
        connection = self.socket
        if connection is None or not self._is_connected or self.is_foreign:
            time.sleep(_PAUSE_SECONDS)
            return False
        if _pending(connection):
            return True
        if connection.fileno() != self._number:  # closed by another thread
            self.event_queue.put("Evt17")
            return False
        # An event to be handled, or a closing connection, is not kept waiting.
        at_once = not self.event_queue.empty() or self.assoc.dul.state_machine.current_state == _CLOSING
        events = self._poll.poll(0 if at_once else TICK_SECONDS * 1000)
        if any(which == self._wake for which, _ in events):
            os.eventfd_read(self._wake)
        return any(which == self._number for which, _ in events)

    def wake(self) -> None:
        """End the waiting in :attr:`ready`; from any thread."""
        # Guarded, because the number of a closed descriptor may be another file's by now.
        with self._guard:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def dispose(self) -> None:
        """Release what the association no longer needs. Called once, when both its threads have ended."""
        with self._guard:
            os.close(self._wake)
            self._wake = -1
        # pynetdicom's objects refer to each other, so that they stay until the next collection; the buffer need not.
        self.view = memoryview(b"")
        self.start = self.end = 0

    def spoil(self) -> None:
        """Nothing that this peer still sends will be read."""
        self.is_foreign = True
        self.start = self.end = 0

    def answer(self, content: bytes) -> None:
        """Send a response.

        Raises
        ------
        OSError
            The connection ended, or the peer takes nothing for as long as its time limit.
        """
        connection = self.socket
        if connection is None:
            raise ConnectionResetError("the connection is closed")
        connection.sendall(content)

    def begin(self) -> None:
        """Have at least one unread byte in the buffer, of a message that may lie in it as a whole; raises as :meth:`fill`.

        The answer acknowledges such a message. Who must wait for more of it acknowledges what came: see :meth:`fill`.
        """
        if self.start == self.end:
            connection = self.socket
            if connection is None:
                raise ConnectionResetError("the connection is closed")
            self.start = self.end = 0
            self._take(connection)

    def fill(self) -> None:
        """Read what there is, at least one byte, behind what is unread. There is always room for half a buffer.

        Raises
        ------
        OSError
            The connection ended, or nothing came within its time limit.
        """
        connection = self.socket
        if connection is None:
            raise ConnectionResetError("the connection is closed")
        if self.start == self.end:
            self.start = self.end = 0
        elif len(self.view) - self.end < BUFFER_BYTES // 2:
            unread = self.end - self.start
            self.view[:unread] = self.view[self.start : self.end]
            self.start, self.end = 0, unread
        self._read(connection)

    @property
    def has_room(self) -> bool:
        """Whether :meth:`fill_on` is worth its while."""
        return len(self.view) - self.end >= _ROOM_BYTES

    def fill_on(self) -> None:
        """As :meth:`fill`, with nothing in the buffer moved, what was read included."""
        connection = self.socket
        if connection is None:
            raise ConnectionResetError("the connection is closed")
        self._read(connection)

    def _read(self, connection: socket.socket) -> None:
        self.acknowledge_at_once(connection)
        self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        count = connection.recv_into(self.view[self.end :])
        if not count:
            raise ConnectionResetError("the peer closed the connection")
        self.end += count

    def need(self, count: int) -> None:
        """Have at least ``count`` unread bytes in the buffer; raises as :meth:`fill`.

        Raises
        ------
        TimeoutError
            They came byte by byte, and not all within the time limit of silence.
        """
        if self.end - self.start >= count:
            return
        limit = self.socket.gettimeout() if self.socket is not None else None
        until = None if limit is None else time.monotonic() + limit
        while self.end - self.start < count:
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"a request did not arrive within {limit:g} s")
            self.fill()

    def _exactly(self, connection: socket.socket, nr_bytes: int) -> bytearray:
        """As the base class, from the buffer first."""
        taken = bytearray(self.view[self.start : min(self.end, self.start + nr_bytes)])
        self.start += len(taken)
        if len(taken) < nr_bytes:
            taken += super()._exactly(connection, nr_bytes - len(taken))
        return taken


class TellingQueue(Queue[Any]):
    """Tells somebody that something was put."""

    def __init__(self, tell: Any) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As the base class."""
        super().put(item, block, timeout)
        self._tell()


def _pending(connection: socket.socket) -> bool:
    """Whether TLS holds decrypted bytes that the system does not know of."""
    pending = getattr(connection, "pending", None)
    return bool(pending and pending())
