"""What can happen to a study that arrives, as plain values that can be stored and replayed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Source(StrEnum):
    """Who says what belongs to a study; the value stands in the evidence as people read it."""

    MPPS = "MPPS"
    NOTIFICATION = "IAN"
    COMMITMENT = "the commitment request"
    ARCHIVE = "the archive's count"
    WORKITEM = "the workitem"


class StepStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252), PS3.3 C.4.14."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True, slots=True)
class Instant:
    """A reading of the monotonic clock: seconds since an arbitrary moment of the boot named."""

    boot_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ListedSeries:
    """A series as a list names it: how many instances, and how many of exactly these are here."""

    series_uid: str
    expected: int
    held: int

    @property
    def missing(self) -> int:
        """Instances that are named and not here."""
        return max(0, self.expected - self.held)


@dataclass(frozen=True, slots=True)
class InstanceStored:
    """``count`` images of a series were stored over one association (None: found on disk, or over DICOMweb)."""

    at: Instant
    association_id: str | None = None
    count: int = 1
    series_uid: str = ""


@dataclass(frozen=True, slots=True)
class AssociationEnded:
    """An association ended: ``orderly`` by A-RELEASE, otherwise by abort or loss of the connection."""

    at: Instant
    association_id: str
    orderly: bool


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """A modality's performed procedure step has begun or ended (PS3.4 F.7)."""

    at: Instant
    step_uid: str
    status: StepStatus


@dataclass(frozen=True, slots=True)
class Listed:
    """Somebody named the instances of the study, or what is here of those named has changed.

    ``reference`` is the UID of the performed step, notification or transaction, or the archive's name; of one source
    and reference the latest list counts. ``said_at`` tells one saying from another, and is never compared as a time.
    """

    at: Instant
    source: Source
    reference: str
    series: tuple[ListedSeries, ...]
    said_at: float = 0.0


@dataclass(frozen=True, slots=True)
class OrderKnown:
    """An order for the study is known; ``late`` where the images were there first. ``words`` name no patient."""

    at: Instant
    late: bool
    words: str


@dataclass(frozen=True, slots=True)
class RhythmLearnt:
    """How long this sender pauses, from what it did before; used for the wait that has begun.

    Attributes
    ----------
    quiet_seconds : float
        Between images of an association.
    between_seconds : float
        After an association, until the next one of the same study.
    """

    at: Instant
    quiet_seconds: float
    between_seconds: float
    words: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Released:
    """An operator released the study from being held; what was decided meanwhile is decided again."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Corrected:
    """Images of the study were replaced by copies with another identity, or have moved to another study."""

    at: Instant


Event = (
    InstanceStored | AssociationEnded | PerformedStep | Listed | OrderKnown | RhythmLearnt | Tick | Released | Corrected
)
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        InstanceStored,
        AssociationEnded,
        PerformedStep,
        Listed,
        OrderKnown,
        RhythmLearnt,
        Tick,
        Released,
        Corrected,
    )
}


def content_of(event: Event) -> dict[str, Any]:
    """An event without its time, as plain JSON."""
    content: dict[str, Any] = {
        each.name: getattr(event, each.name) for each in fields(event) if each.name not in ("at", "series")
    }
    if isinstance(event, Listed):
        content["series"] = [[each.series_uid, each.expected, each.held] for each in event.series]
    return {key: str(value) if isinstance(value, StrEnum) else value for key, value in content.items()}


def event_from(kind: str, at: Instant, content: dict[str, Any]) -> Event:
    """Inverse of :func:`content_of`; ``kind`` is the name of the event's class.

    Raises
    ------
    KeyError
        No event has that name.
    """
    values = dict(content)
    if "series" in values:
        values["series"] = tuple(ListedSeries(*each) for each in values["series"])
    if "source" in values:
        values["source"] = Source(values["source"])
    if "status" in values:
        values["status"] = StepStatus(values["status"])
    event: Event = _KINDS[kind](at=at, **values)
    return event
