"""What a process tells whoever started it: that it is ready, that its main loop turns, that it stops.

The protocol is that of ``sd_notify(3)``, so that systemd and our own supervisor (:mod:`node.notify_socket`) hear the same.
A heartbeat is sent by the loop that does the work and never by a thread beside it: a loop that is stuck falls silent, and
whoever watches kills the process. The same beat is the process's pulse (:mod:`node.pulse`), which says it to everybody else.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from node.pulse import Pulse

# Three beats within each time limit: two may be late.
_BEATS = 3.0


class Liveness:
    """One process's line to whoever watches it; silent where nobody does.

    Parameters
    ----------
    address : str
        Of a Unix datagram socket; a leading ``@`` names one in Linux's abstract name space. Empty: nobody listens.
    limit_seconds : float or None
        Without a heartbeat for so long this process is killed; None: nobody counts.
    pulse : Pulse or None
        Beats along.
    """

    def __init__(self, address: str = "", limit_seconds: float | None = None, pulse: Pulse | None = None) -> None:
        self._pulse = pulse
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._interval = None if limit_seconds is None else limit_seconds / _BEATS
        self._next_beat = 0.0
        self._said = ""

    @classmethod
    def of_environment(cls) -> Liveness:
        """Read and forget ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``, so that no child speaks for us."""
        address, pid = os.environ.pop("NOTIFY_SOCKET", ""), os.environ.pop("WATCHDOG_PID", "")
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        ours = microseconds.isdigit() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(microseconds) / 1e6 if ours else None)

    def with_pulse(self, pulse: Pulse) -> Liveness:
        """The same line, with a pulse that beats along."""
        self._pulse = pulse
        return self

    def ready(self, status: str) -> None:
        """Everything that others rely on works now; one line for people."""
        self._said = status
        self._send(f"READY=1\nSTATUS={status}")

    def beat(self, **facts: Any) -> None:
        """The main loop has turned. Call it in every turn: it costs nothing between two heartbeats.

        Parameters
        ----------
        **facts
            What others may know of this process from now on; none leave what was told before.
        """
        if self._pulse is not None:
            self._pulse.beat(**facts)
        now = time.monotonic()
        if self._interval is not None and now >= self._next_beat:
            self._next_beat = now + self._interval
            self._send("WATCHDOG=1")

    def say(self, status: str) -> None:
        """Another line for people, shown by ``systemctl status`` and ``ainode status``; sent when it has changed."""
        if status != self._said:
            self._said = status
            self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """The end has begun, as asked."""
        if self._pulse is not None:
            self._pulse.end()
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hand:
            # Nobody who watches may hold up what is watched.
            hand.setblocking(False)
            try:
                hand.sendto(message.encode(), self._address)
            except OSError:
                pass  # nobody is there any more, or has not read for long; the next message may arrive
