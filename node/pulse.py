"""Pulses: each process says from its main loop that the loop turns, and what others may know of it.

A pulse is a file below ``data_dir/run/pulses``. Its modification time is the machine's monotonic clock at the last beat:
setting it needs no room on a full disk, and no step of the wall clock makes a process look frozen. Its content is a JSON
object of facts, written only when they change.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.status import run_folder

PERIOD_SECONDS = 1.0
"""A beat is written at most so often."""

_FOLDER = "pulses"


@dataclass(frozen=True, slots=True)
class Beat:
    """The last sign of life of a process.

    Attributes
    ----------
    process : str
        ``receiver``, ``scheduler``, ``dispatcher``, ``dispatcher-stat``, ``sender``, ``notifier``, ``hl7``, ``web``,
        ``monitor`` or ``supervisor``.
    age_seconds : float
        Since the last beat.
    facts : dict
        What the process tells about itself. Never anything of a patient.
    """

    process: str
    pid: int
    age_seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


class Pulse:
    """The pulse of the calling process. Call :meth:`beat` from its main loop, as often as it turns.

    Parameters
    ----------
    data_dir : Path
    process : str
        See :class:`Beat`.
    """

    def __init__(self, data_dir: Path, process: str) -> None:
        self._path = run_folder(data_dir) / _FOLDER / f"{process}-{os.getpid()}.json"
        self._facts: dict[str, Any] | None = None
        self._last = -PERIOD_SECONDS

    def beat(self, **facts: Any) -> None:
        """Say that the loop turns; ``facts`` replace what was told before, where any are given."""
        now = time.monotonic()
        wanted = facts or self._facts or {}
        if now - self._last < PERIOD_SECONDS and wanted == self._facts:
            return
        self._last = now
        try:
            if wanted != self._facts:
                self._write(wanted, now)
                self._facts = wanted
            else:
                os.utime(self._path, (now, now))
        except OSError:
            # No room for new facts: they are tried again with the next beat, and the old ones stay.
            self._touch(now)

    def end(self) -> None:
        """Take the pulse away: this process stops in order."""
        self._path.unlink(missing_ok=True)

    def _write(self, facts: dict[str, Any], now: float) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(facts), encoding="utf-8")
        os.utime(part, (now, now))
        part.replace(self._path)

    def _touch(self, now: float) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch()
            os.utime(self._path, (now, now))
        except OSError:
            return  # whoever watches sees that the beats stop, and that is the truth about this folder


def beats(data_dir: Path) -> list[Beat]:
    """The last beat of every process that lives, in order of name and process id.

    A process that died leaves its file; it is no beat any more.
    """
    found = []
    for path in sorted((run_folder(data_dir) / _FOLDER).glob("*.json")):
        process, _, number = path.stem.rpartition("-")
        if not number.isdigit() or not _lives(int(number)):
            continue
        try:
            told = path.stat().st_mtime
            content = path.read_text(encoding="utf-8")
        except OSError:
            continue  # it ended in this moment
        found.append(Beat(process, int(number), max(0.0, time.monotonic() - told), _facts(content)))
    return found


def forget_dead(data_dir: Path) -> None:
    """Remove what processes left that are gone."""
    for path in (run_folder(data_dir) / _FOLDER).glob("*-*.*"):
        number = path.stem.rpartition("-")[2]
        if not number.isdigit() or not _lives(int(number)):
            path.unlink(missing_ok=True)


def _facts(content: str) -> dict[str, Any]:
    try:
        found = json.loads(content or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # under another user
    return True
