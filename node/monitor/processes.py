"""Whether every process of the node gives signs of life."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from node.errors import ProcessSilent
from node.expected import expected_processes
from node.monitor.condition import Alarm, Condition
from node.pulse import Beat, beats
from node.settings import Settings

FRESH_SECONDS = 5.0
"""A process beats every second; a beat older than this is none."""


class ProcessWatch:
    """Remembers when each kind of process was last there in the wanted number.

    Parameters
    ----------
    settings : Settings
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._wanted = Counter(each.process for each in expected_processes(settings) if each.process != "monitor")
        self._complete_at = dict.fromkeys([*self._wanted, "supervisor"], clock())

    def look(self) -> list[Condition]:
        """Kinds of which too few have beaten for ``monitor.silent_seconds``."""
        now, living = self._clock(), beats(self._settings.data_dir)
        found = []
        for process, wanted in self._all_wanted(living).items():
            of_kind = [beat for beat in living if beat.process == process]
            fresh = [beat for beat in of_kind if beat.age_seconds < FRESH_SECONDS]
            if len(fresh) >= wanted:
                self._complete_at[process] = now
            elif now - self._complete_at[process] >= self._settings.monitor.silent_seconds:
                found.append(_silent(process, wanted, len(fresh), of_kind, now - self._complete_at[process]))
        return found

    def _all_wanted(self, living: list[Beat]) -> dict[str, int]:
        """With systemd there may be a unit for each process and no supervisor: it is missed only where there was one."""
        supervised = any(beat.process == "supervisor" for beat in living)
        return {**self._wanted, **({"supervisor": 1} if supervised else {})}


def _silent(process: str, wanted: int, fresh: int, of_kind: list[Beat], seconds: float) -> Condition:
    stuck = [beat for beat in of_kind if beat.age_seconds >= FRESH_SECONDS]
    how = (
        f"process {stuck[0].pid} is there and does not move" if stuck else "it is not running, or ends again and again"
    )
    words = f"{ProcessSilent.code}: {process}: {fresh} of {wanted} give signs of life since {seconds:.0f} s; {how}"
    return Condition(Alarm.PROCESS_SILENT, process, words)
