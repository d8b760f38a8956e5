"""How far a text is, told over the pipe that jobs come through: numbers, a few times a second, and never a word of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from node.jobs import wire

EVERY_SECONDS = 0.5


class TextPace:
    """Tokens a second of one text after another.

    The first token is not counted: reading the image and the prompt is in its time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first = 0.0
        self._from = self._before = 0

    def at(self, tokens: int) -> float | None:
        """The pace when ``tokens`` are made; None where there is none yet."""
        now = self._clock()
        if tokens <= self._before or not self._before:  # another text has begun
            self._first, self._from = now, tokens
        self._before = tokens
        made, seconds = tokens - self._from, now - self._first
        return made / seconds if made and seconds > 0 else None


class ProgressPipe:
    """See :class:`models.progress.TextProgress`.

    Parameters
    ----------
    connection : socket.socket
        To the dispatcher, which answers nothing.
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, connection: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._pace = TextPace(clock)
        self._told = float("-inf")

    def made(self, model: str, tokens: int, limit: int) -> None:
        """See :meth:`models.progress.TextProgress.made`."""
        pace = self._pace.at(tokens)
        now = self._clock()
        if now - self._told < EVERY_SECONDS:
            return
        self._told = now
        rate = None if pace is None else round(pace, 2)
        told = {"kind": "progress", "model": model, "tokens": tokens, "limit": limit, "tokens_per_second": rate}
        wire.send(self._connection, told)
