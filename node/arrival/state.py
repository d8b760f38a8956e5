"""What is known of one study's arrival, as a value that can be stored between any two events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from node.arrival.events import Instant, ListedSeries, Source, StepStatus


class Phase(StrEnum):
    """Where a study stands."""

    WAITING = "waiting"
    PROVISIONAL = "provisional"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class SeriesSeen:
    """Images of a series that are here, and when the last one came (monotonic seconds, boot of ``State.last_at``)."""

    count: int
    last: float


@dataclass(frozen=True, slots=True)
class Listing:
    """The latest list of one source and reference.

    Attributes
    ----------
    told, same_since : float
        When it came last, and since when it has named the same numbers (monotonic seconds).
    said_at : float
        Tells one saying from another.
    spent : bool
        A decision has used it: what comes later is not on it.
    """

    source: Source
    series: tuple[ListedSeries, ...]
    told: float
    same_since: float
    said_at: float = 0.0
    spent: bool = False

    @property
    def expected(self) -> int:
        """Instances named."""
        return sum(each.expected for each in self.series)

    @property
    def held(self) -> int:
        """Instances named that are here."""
        return self.expected - self.missing

    @property
    def missing(self) -> int:
        """Instances named that are not here."""
        return sum(each.missing for each in self.series)

    @property
    def names(self) -> tuple[tuple[str, int], ...]:
        """What it asks for, whatever of it is here."""
        return tuple((each.series_uid, each.expected) for each in self.series)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What was learnt of the sender before this wait began; see :class:`node.arrival.events.RhythmLearnt`."""

    quiet_seconds: float
    between_seconds: float
    words: str


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one study's arrival.

    Attributes
    ----------
    phase : Phase
        WAITING until the evidence suffices; PROVISIONAL when it does for some series.
    run : int
        How often the study was complete; late images make it complete once more, with a run that supersedes.
    instances : int
        Images stored since the study was last complete, or since the first one.
    total : int
        Images stored altogether.
    first_at, last_at, ended_at : Instant or None
        First and last image of this wait; last end of an association.
    open : frozenset of str
        Associations that carried images of this wait and still stand.
    ended : int
        How many such associations ended during this wait.
    broken : bool
        One of them did not end orderly, so its end proves nothing.
    series : mapping
        Series UID → what is here of it.
    steps : mapping
        UID of a performed procedure step → its status.
    lists : mapping
        ``"SOURCE reference"`` → the latest list.
    rhythm : Rhythm or None
        Learnt quiet times for this wait.
    order : str
        What is known of the order, in words; empty where nothing is.
    ready : frozenset of str
        Series that a provisional decision was about, and that have not changed since.
    """

    phase: Phase = Phase.WAITING
    run: int = 0
    instances: int = 0
    total: int = 0
    first_at: Instant | None = None
    last_at: Instant | None = None
    ended_at: Instant | None = None
    open: frozenset[str] = frozenset()
    ended: int = 0
    broken: bool = False
    series: Mapping[str, SeriesSeen] = field(default_factory=dict)
    steps: Mapping[str, StepStatus] = field(default_factory=dict)
    lists: Mapping[str, Listing] = field(default_factory=dict)
    rhythm: Rhythm | None = None
    order: str = ""
    ready: frozenset[str] = frozenset()

    @property
    def here(self) -> int:
        """Images of the study that are here, as counted by series."""
        return sum(each.count for each in self.series.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "phase": self.phase.value,
            "run": self.run,
            "instances": self.instances,
            "total": self.total,
            "first_at": _pair(self.first_at),
            "last_at": _pair(self.last_at),
            "ended_at": _pair(self.ended_at),
            "open": sorted(self.open),
            "ended": self.ended,
            "broken": self.broken,
            "series": {uid: [each.count, each.last] for uid, each in self.series.items()},
            "steps": {uid: status.value for uid, status in self.steps.items()},
            "lists": {key: _listing(each) for key, each in self.lists.items()},
            "rhythm": [self.rhythm.quiet_seconds, self.rhythm.between_seconds, self.rhythm.words]
            if self.rhythm
            else None,
            "order": self.order,
            "ready": sorted(self.ready),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> State:
        """Inverse of :meth:`to_dict`; an empty dict is the state before the first event.

        What an earlier version did not know is as before the first event.
        """
        if not content:
            return cls()
        times = {key: Instant(*content[key]) if content[key] else None for key in ("first_at", "last_at", "ended_at")}
        rhythm = content.get("rhythm")
        return cls(
            phase=Phase(content["phase"]),
            run=content["run"],
            instances=content["instances"],
            total=content["total"],
            open=frozenset(content["open"]),
            ended=content["ended"],
            broken=content["broken"],
            series={uid: SeriesSeen(*each) for uid, each in content.get("series", {}).items()},
            steps={uid: StepStatus(status) for uid, status in content.get("steps", {}).items()},
            lists={key: _listing_from(each) for key, each in content.get("lists", {}).items()},
            rhythm=Rhythm(*rhythm) if rhythm else None,
            order=content.get("order", ""),
            ready=frozenset(content.get("ready", ())),
            **times,
        )


def _pair(instant: Instant | None) -> list[Any] | None:
    return [instant.boot_id, instant.seconds] if instant else None


def _listing(listing: Listing) -> dict[str, Any]:
    return {
        "source": listing.source.value,
        "series": [[each.series_uid, each.expected, each.held] for each in listing.series],
        "told": listing.told,
        "same_since": listing.same_since,
        "said_at": listing.said_at,
        "spent": listing.spent,
    }


def _listing_from(content: dict[str, Any]) -> Listing:
    return Listing(
        source=Source(content["source"]),
        series=tuple(ListedSeries(*each) for each in content["series"]),
        told=content["told"],
        same_since=content["same_since"],
        said_at=content["said_at"],
        spent=content["spent"],
    )
