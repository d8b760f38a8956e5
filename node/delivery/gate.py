"""Whether a destination may be called now, and how much may leave: one for all its couriers."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from node.delivery.breaker import Breaker
from node.settings.window import closed_until

# A limited flow may come in bursts of this part of a minute's amount.
_BURST_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Closed:
    """Why and for how long nothing is tried."""

    seconds: float
    planned: bool


class Gate:
    """Circuit breaker, planned downtime and the rate at which a backlog leaves afterwards. Safe to share between threads.

    Parameters
    ----------
    breaker : Breaker
    downtime : list of str
        Windows as in ``destination.downtime``.
    catch_up_per_minute : int
        Deliveries that are not STAT; 0 is no limit.
    """

    def __init__(self, breaker: Breaker, *, downtime: list[str], catch_up_per_minute: int) -> None:
        self._breaker = breaker
        self._downtime = downtime
        self._rate = catch_up_per_minute / 60.0
        self._burst = max(1.0, self._rate * _BURST_SECONDS)
        self._guard = threading.Lock()
        # Whatever waits when the sender starts is a backlog: it ends with the first look that finds nothing more.
        self._catching_up = catch_up_per_minute > 0
        self._allowance = self._burst
        self._counted_at: float | None = None

    def closed(self, now: float) -> Closed | None:
        """Why the destination is not called now; None where it may be."""
        with self._guard:
            if (until := closed_until(self._downtime, now)) is not None:
                self._catching_up = self._rate > 0
                return Closed(until - now, planned=True)
            if blocked := self._breaker.remaining(now):
                return Closed(blocked, planned=False)
        return None

    @property
    def breaker_open(self) -> bool:
        """Whether the destination was not reached so often that it is left alone, or tried with one attempt only."""
        with self._guard:
            return self._breaker.is_open

    def failed(self, now: float) -> bool:
        """Count that the destination was not reached; return whether that opened the breaker."""
        with self._guard:
            self._catching_up = self._rate > 0
            return self._breaker.failed(now)

    def succeeded(self) -> bool:
        """The destination was reached; return whether the breaker had been open."""
        with self._guard:
            return self._breaker.succeeded()

    def hold_back(self) -> None:
        """What leaves from now on has waited for something else, as for the end of a pause."""
        with self._guard:
            self._catching_up = self._rate > 0

    def allowance(self, now: float, wanted: int) -> int:
        """How many deliveries that are not STAT may leave now, at most ``wanted``."""
        with self._guard:
            if not self._catching_up:
                return wanted
            if self._counted_at is not None:
                gained = max(0.0, now - self._counted_at) * self._rate
                self._allowance = min(self._burst, self._allowance + gained)
            self._counted_at = now
            return min(wanted, int(self._allowance))

    def used(self, count: int, *, wanted: int) -> None:
        """So many that are not STAT leave of ``wanted`` that might have: fewer means that nothing more waits."""
        with self._guard:
            self._allowance = max(0.0, self._allowance - count)
            if count < wanted:
                self._catching_up = False

    def next_allowance(self) -> float:
        """Seconds until one more may leave; 0 where one may."""
        with self._guard:
            if not self._catching_up or self._allowance >= 1.0:
                return 0.0
            return (1.0 - self._allowance) / self._rate
