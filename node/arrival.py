"""When a study has arrived: a pure fold over events, with the evidence for each decision.

Nothing here reads a clock or a database. Times are readings of the monotonic clock of one boot, so that setting the
wall clock can neither fire nor delay a decision; a reading of another boot cannot be compared and starts the quiet
time anew. Replaying the events gives the state: ``state = fold(step, events)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from node.settings import ArrivalSection


class Phase(StrEnum):
    """Where a study stands."""

    WAITING = "waiting"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Instant:
    """A reading of the monotonic clock: seconds since an arbitrary moment of the boot named."""

    boot_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class InstanceStored:
    """``count`` images were stored over one association (None: found on disk, or over DICOMweb)."""

    at: Instant
    association_id: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class AssociationEnded:
    """An association ended: ``orderly`` by A-RELEASE, otherwise by abort or loss of the connection."""

    at: Instant
    association_id: str
    orderly: bool


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


Event = InstanceStored | AssociationEnded | Tick | Released | Corrected


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one study's arrival.

    Attributes
    ----------
    phase : Phase
        WAITING until the evidence suffices.
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
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> State:
        """Inverse of :meth:`to_dict`; an empty dict is the state before the first event."""
        if not content:
            return cls()
        times = {key: Instant(*content[key]) if content[key] else None for key in ("first_at", "last_at", "ended_at")}
        return cls(
            phase=Phase(content["phase"]),
            run=content["run"],
            instances=content["instances"],
            total=content["total"],
            open=frozenset(content["open"]),
            ended=content["ended"],
            broken=content["broken"],
            **times,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The study is complete.

    Attributes
    ----------
    run : int
        1 for the first time, n+1 after late images.
    reason : str
        ``association_end``, ``quiet``, ``maximum_wait`` or ``released``.
    evidence : tuple of str
        The reasons in words, as `ainode why` prints them.
    instances : int
        Images that came during this wait.
    """

    run: int
    reason: str
    evidence: tuple[str, ...]
    instances: int


def step(state: State, event: Event, policy: ArrivalSection) -> tuple[State, Decision | None]:
    """Take one event into account.

    Parameters
    ----------
    state : State
        ``State()`` before the first event.
    event : Event
        What happened. Events of one study are given in order.
    policy : ArrivalSection
        The waits, in seconds.

    Returns
    -------
    State, Decision or None
        Only `Tick` and `Released` ever decide: news never completes a study, looking at it does.
    """
    state = _same_boot(state, event.at)
    match event:
        case InstanceStored():
            return _stored(state, event), None
        case AssociationEnded():
            return _ended(state, event), None
        case Released():
            return _released(state)
        case Corrected():
            return _corrected(state, event), None
        case Tick():
            return _looked(state, event.at, policy)


def due_in_seconds(state: State, at: Instant, policy: ArrivalSection) -> float | None:
    """Seconds until a `Tick` would decide if nothing else happened; None when only news can change anything."""
    if state.phase is Phase.COMPLETE or state.last_at is None or state.first_at is None:
        return None
    state = _same_boot(state, at)
    assert state.last_at is not None and state.first_at is not None
    waits = [
        state.last_at.seconds + policy.quiet_seconds,
        state.first_at.seconds + policy.maximum_wait_seconds,
    ]
    if _all_ended_orderly(state):
        assert state.ended_at is not None
        waits.append(max(state.ended_at.seconds, state.last_at.seconds) + policy.association_end_quiet_seconds)
    return max(0.0, min(waits) - at.seconds)


def _pair(instant: Instant | None) -> list[Any] | None:
    return [instant.boot_id, instant.seconds] if instant else None


def _same_boot(state: State, at: Instant) -> State:
    """Start the waits anew when the machine was restarted: nobody can say how long it was off."""
    if state.last_at is None or state.last_at.boot_id == at.boot_id:
        return state
    return replace(
        state,
        first_at=at,
        last_at=at,
        ended_at=at if state.ended_at else None,
        open=frozenset(),
        # Whatever stood open at the restart was cut off.
        broken=state.broken or bool(state.open),
    )


def _stored(state: State, event: InstanceStored) -> State:
    if state.phase is Phase.COMPLETE:
        state = State(run=state.run, total=state.total)
    opened = frozenset([event.association_id]) if event.association_id else frozenset()
    return replace(
        state,
        instances=state.instances + event.count,
        total=state.total + event.count,
        first_at=state.first_at or event.at,
        last_at=event.at,
        open=state.open | opened,
    )


def _corrected(state: State, event: Corrected) -> State:
    if state.phase is Phase.COMPLETE:
        state = State(run=state.run, total=state.total)
    return replace(state, first_at=state.first_at or event.at, last_at=event.at)


def _ended(state: State, event: AssociationEnded) -> State:
    if event.association_id not in state.open:
        return state
    return replace(
        state,
        open=state.open - {event.association_id},
        ended=state.ended + 1,
        ended_at=event.at,
        broken=state.broken or not event.orderly,
    )


def _released(state: State) -> tuple[State, Decision | None]:
    if state.phase is not Phase.COMPLETE:
        return state, None
    return state, Decision(state.run, "released", ("an operator released the study",), state.instances)


def _all_ended_orderly(state: State) -> bool:
    return state.ended > 0 and not state.open and not state.broken


def _looked(state: State, at: Instant, policy: ArrivalSection) -> tuple[State, Decision | None]:
    if state.phase is Phase.COMPLETE or state.last_at is None or state.first_at is None:
        return state, None
    quiet = at.seconds - state.last_at.seconds
    waited = at.seconds - state.first_at.seconds
    if _all_ended_orderly(state) and state.ended_at is not None:
        since_end = min(quiet, at.seconds - state.ended_at.seconds)
        if since_end >= policy.association_end_quiet_seconds:
            how_many = "the association" if state.ended == 1 else f"all {state.ended} associations"
            words = f"{how_many} that carried images ended orderly and nothing came for {since_end:.1f} s"
            return _complete(state, "association_end", words)
    if quiet >= policy.quiet_seconds:
        return _complete(state, "quiet", f"no image for {quiet:.1f} s{_associations(state)}")
    if waited >= policy.maximum_wait_seconds:
        return _complete(state, "maximum_wait", f"waited {waited:.0f} s and images still come{_associations(state)}")
    return state, None


def _associations(state: State) -> str:
    parts = []
    if state.open:
        parts.append(f"{len(state.open)} association(s) still open")
    if state.broken:
        parts.append("an association was cut off")
    return "; " + ", ".join(parts) if parts else ""


def _complete(state: State, reason: str, words: str) -> tuple[State, Decision]:
    run = state.run + 1
    count = f"{state.instances} image(s) arrived"
    if run > 1 and not state.instances:
        count = f"images were corrected, none was added; run {run} supersedes run {run - 1}"
    elif run > 1:
        count = f"{state.instances} image(s) arrived after the study was complete; run {run} supersedes run {run - 1}"
    done = replace(state, phase=Phase.COMPLETE, run=run, open=frozenset(), ended=0, broken=False, ended_at=None)
    return done, Decision(run, reason, (count, words), state.instances)
