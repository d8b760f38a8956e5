"""How fast to ask an archive that others need as well: slower as soon as it answers more slowly. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

_LEARNT_FROM = 8
_SLOW = 2.0
_LEAST_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Pace:
    """Pauses between retrievals, learnt from the archive's response times.

    A response that takes more than twice as long as usual doubles the pause; one that does not halves it. Usual is the
    median of the fastest half of what was seen, so that an archive that is slow from the start stays usable, and one
    that gets slower by and by does not become the new normal.

    Attributes
    ----------
    pause_seconds : float
        What to wait before the next request.
    seen : tuple of float
        Response times the usual one is taken from, seconds.
    """

    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 60.0
    pause_seconds: float = 0.0
    seen: tuple[float, ...] = ()

    @property
    def usual_seconds(self) -> float:
        """Usual response time; 0 before the first."""
        fastest = sorted(self.seen)[: max(1, len(self.seen) // 2)]
        return max(_LEAST_SECONDS, median(fastest)) if fastest else 0.0

    def after(self, response_seconds: float) -> Pace:
        """The pace after one more response."""
        slow = bool(self.seen) and response_seconds > _SLOW * self.usual_seconds
        if slow:
            pause = min(self.longest_pause_seconds, max(self.first_pause_seconds, self.pause_seconds * 2))
        else:
            pause = self.pause_seconds / 2 if self.pause_seconds > self.first_pause_seconds / 2 else 0.0
        # The fastest are kept: they are what the archive can do.
        seen = tuple(sorted([*self.seen, response_seconds])[:_LEARNT_FROM])
        return replace(self, pause_seconds=pause, seen=seen)

    def refused(self) -> Pace:
        """The pace after the archive could not be asked, or refused."""
        return replace(
            self, pause_seconds=min(self.longest_pause_seconds, max(self.first_pause_seconds, self.pause_seconds * 4))
        )
