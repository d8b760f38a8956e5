"""When text ends: stop tokens, stop strings, a length, a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Ending(StrEnum):
    """Why no further token was made."""

    STOPPED = "stopped"
    LENGTH = "length"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Written:
    """Tokens made, without the stop token, and why they end; what did not stop by itself is cut off."""

    tokens: tuple[int, ...]
    ending: Ending

    @property
    def cut(self) -> bool:
        """Whether the text does not end where the model would have ended it."""
        return self.ending is not Ending.STOPPED


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one text.

    Attributes
    ----------
    maximum_tokens : int
        Tokens made at most, the stop token among them.
    stop_tokens : tuple of int
    seconds : float or None
        Wall-clock limit; the text is cut there.
    stop_strings : tuple of str
        The text ends behind the first of them. Needs ``decode``.
    decode : callable
        Tokens to text.
    progress : callable
        Called with the tokens made so far, after each.
    clock : callable
        Monotonic seconds.
    """

    maximum_tokens: int
    stop_tokens: tuple[int, ...]
    seconds: float | None = None
    stop_strings: tuple[str, ...] = ()
    decode: Callable[[Sequence[int]], str] | None = None
    progress: Callable[[Sequence[int]], None] | None = None
    clock: Callable[[], float] = field(default=time.monotonic)

    def deadline(self) -> float | None:
        """When the time is up, counted from now."""
        return None if self.seconds is None else self.clock() + self.seconds

    def late(self, deadline: float | None) -> bool:
        """Whether it is up."""
        return deadline is not None and self.clock() >= deadline

    def says_stop(self, tokens: Sequence[int]) -> bool:
        """Whether the text of ``tokens`` holds a stop string."""
        if not self.stop_strings or self.decode is None:
            return False
        text = self.decode(tokens)
        return any(each in text for each in self.stop_strings)
