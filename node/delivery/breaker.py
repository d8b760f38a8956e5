"""Circuit breaker of one destination. Pure: the caller brings the time."""

from __future__ import annotations


class Breaker:
    """Opens after consecutive failures to reach a peer, lets one attempt through after a pause.

    Parameters
    ----------
    failures : int
        Consecutive failures that open it.
    pause_seconds : float
        How long nothing is tried.
    """

    def __init__(self, *, failures: int, pause_seconds: float) -> None:
        self._limit = failures
        self._pause_seconds = pause_seconds
        self._consecutive = 0
        self._open_until = 0.0

    def remaining(self, now: float) -> float:
        """Seconds until the next attempt is allowed; 0 when it is."""
        return max(0.0, self._open_until - now)

    @property
    def is_open(self) -> bool:
        """Open or half open: the last attempts have failed."""
        return self._consecutive >= self._limit

    def failed(self, now: float) -> bool:
        """Count a failure; return whether the breaker opened with it."""
        self._consecutive += 1
        if self._consecutive < self._limit:
            return False
        # Half open after the pause: the count stays, so that one more failure opens it again.
        self._open_until = now + self._pause_seconds
        return self._consecutive == self._limit

    def succeeded(self) -> bool:
        """Count a success; return whether the breaker had been open."""
        was_open = self._consecutive >= self._limit
        self._consecutive = 0
        self._open_until = 0.0
        return was_open
