"""How often an address may fail to sign in. Of this process only: accounts have a lock of their own in the store."""

from __future__ import annotations

import threading
from collections import deque

_FAILURES = 20
_WINDOW_SECONDS = 300.0
_ADDRESSES = 10_000


class Attempts:
    """Failures of each address in the last five minutes. Safe to share between threads."""

    def __init__(self, *, failures: int = _FAILURES, window_seconds: float = _WINDOW_SECONDS) -> None:
        self._failures = failures
        self._window_seconds = window_seconds
        self._guard = threading.Lock()
        self._times: dict[str, deque[float]] = {}

    def exceeded(self, address: str, now: float) -> bool:
        """Whether an address has failed too often to be heard."""
        with self._guard:
            return len(self._recent(address, now)) >= self._failures

    def failed(self, address: str, now: float) -> None:
        """Count a failure."""
        with self._guard:
            self._recent(address, now).append(now)
            if len(self._times) > _ADDRESSES:
                # The one that was heard of first; whoever fills the table forgets himself.
                del self._times[next(iter(self._times))]

    def _recent(self, address: str, now: float) -> deque[float]:
        times = self._times.setdefault(address, deque())
        while times and times[0] + self._window_seconds <= now:
            times.popleft()
        return times
