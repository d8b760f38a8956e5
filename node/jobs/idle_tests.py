"""When an idle model host is to ask its models their known answers: before a day is over, one model at a time.

A model that has not been asked for a day is asked before its next run; that a host does it while nothing waits is so that no
study has to, and so that a device that has begun to compute wrong is found out before one comes.
"""

from __future__ import annotations

import fcntl
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from node.jobs.self_tests import PERIOD_SECONDS

DUE_SECONDS = PERIOD_SECONDS - 3600.0
"""An hour before a run would have to ask."""
_AFTER_FAILURE_SECONDS = 3600.0


class IdleTests:
    """The models of one host, by when they are to be asked again.

    Parameters
    ----------
    models : sequence of str
        Those that rules name; a host asks each when it starts.
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, models: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = dict.fromkeys(models, clock() + DUE_SECONDS)

    def next(self) -> str | None:
        """The model that has waited longest, where one is due."""
        due = [name for name, at in self._due.items() if self._clock() >= at]
        return min(due, key=self._due.__getitem__, default=None)

    def asked(self, model: str, *, passed: bool) -> None:
        """It was asked; one that answered wrong, or could not be asked, is asked again in an hour."""
        self._due[model] = self._clock() + (DUE_SECONDS if passed else _AFTER_FAILURE_SECONDS)


class Turn:
    """Only one host of a machine is asked at a time, so that the others are there for work that comes.

    Parameters
    ----------
    folder : Path
        Where the processes of this node meet; made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"self-test-{socket.gethostname()[:24]}.lock"
        self._held: IO[str] | None = None

    def take(self) -> bool:
        """Whether it is ours now. Never waits; a process that dies gives it back."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._path.open("w", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._held = file
        return True

    def give(self) -> None:
        """Somebody else may."""
        if self._held is not None:
            self._held.close()
            self._held = None
