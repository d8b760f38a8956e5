"""Where a model runs: on what its card and the machine allow, or on the CPU, because a device was left."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from models.device_memory import DeviceMemory
from models.runtime_settings import RuntimeSettings
from models.session import CPU

_AGAIN_SECONDS = 3600.0
_MORE = 0.1
"""Share of a device's memory that must be free beyond what was not enough, before it is tried again."""


class Left(StrEnum):
    """Why a device was left."""

    ANSWERS = "wrong answers"
    MEMORY = "not enough memory"


class Placement:
    """Which execution providers one model is given.

    Parameters
    ----------
    runtime : RuntimeSettings
        Of its card.
    clock : callable
        Monotonic seconds.

    Attributes
    ----------
    left : Left or None
        Why it runs on the CPU although there is a device.
    """

    def __init__(self, runtime: RuntimeSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._clock = clock
        self._left_at = 0.0
        self._memory: DeviceMemory | None = None
        self.left: Left | None = None

    def providers(self, here: tuple[str, ...]) -> tuple[str, ...]:
        """Of those that the machine has, those it may use now, best first."""
        return self._runtime.allowed((CPU,) if self.left else here)

    @property
    def may_leave(self) -> bool:
        """Whether the card lets it run on the CPU."""
        return bool(self._runtime.allowed((CPU,)))

    def leave(self, why: Left, memory: DeviceMemory | None = None) -> None:
        """To the CPU; ``memory``, as it is without this model, was not enough. Wrong answers are for good."""
        self._left_at, self._memory = self._clock(), memory
        self.left = Left.ANSWERS if self.left is Left.ANSWERS else why

    def may_return(self, memory: DeviceMemory | None) -> bool:
        """Whether a device that had too little memory is worth another try: more is free than then, or an hour has passed."""
        if self.left is not Left.MEMORY:
            return False
        if self._clock() - self._left_at >= _AGAIN_SECONDS:
            return True
        if memory is None or self._memory is None:
            return False
        return memory.free >= self._memory.free + memory.total * _MORE

    def come_back(self) -> None:
        """To the device again."""
        self.left = None
