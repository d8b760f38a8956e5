"""The monotonic clock and the boot it belongs to."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from node.arrival import Instant

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class MonotonicClock:
    """Reads instants that processes of one boot can compare.

    Where the kernel names no boot, each process is a boot of its own: waits start anew with the process, none fires early.
    """

    def __init__(self) -> None:
        try:
            self._boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            self._boot_id = str(uuid.uuid4())

    def now(self) -> Instant:
        """The present instant."""
        return Instant(self._boot_id, time.monotonic())
