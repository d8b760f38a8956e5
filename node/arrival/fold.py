"""The step of the fold: one event into account, and a decision where looking at the study gives one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from node.arrival.events import (
    AssociationEnded,
    Corrected,
    Event,
    InstanceStored,
    Instant,
    Listed,
    OrderKnown,
    PerformedStep,
    Released,
    RhythmLearnt,
    Tick,
)
from node.arrival.grounds import Ground, early_grounds, grounds
from node.arrival.state import Listing, Phase, Rhythm, SeriesSeen, State
from node.settings import ArrivalSection

# A due time that went through the database and back may be a little early.
_TOLERANCE_SECONDS = 1e-9


@dataclass(frozen=True, slots=True)
class Decision:
    """The study is complete, or some of its series are.

    Attributes
    ----------
    run : int
        1 for the first time, n+1 after late images.
    reason : str
        ``mpps``, ``notification``, ``archive``, ``commitment``, ``association_end``, ``quiet``, ``missing``,
        ``step_unfinished``, ``maximum_wait``, ``released``, ``order``, or ``series`` where it is provisional.
    evidence : tuple of str
        The reasons in words, as `ainode why` prints them.
    instances : int
        Images that came during this wait.
    final : bool
        False: only the series named are complete.
    series : tuple of str
        Where it is not final, the UIDs of every series that is complete by now.
    """

    run: int
    reason: str
    evidence: tuple[str, ...]
    instances: int
    final: bool = True
    series: tuple[str, ...] = ()


def step(state: State, event: Event, policy: ArrivalSection, *, early: bool = False) -> tuple[State, Decision | None]:
    """Take one event into account.

    Parameters
    ----------
    state : State
        ``State()`` before the first event.
    event : Event
        What happened. Events of one study are given in order.
    policy : ArrivalSection
        The waits, in seconds.
    early : bool
        Somebody wants to know when single series are complete.

    Returns
    -------
    State, Decision or None
        Only `Tick` completes a study: news never do, looking at it does. `Released` and `OrderKnown` have what is
        complete decided again.
    """
    state = _same_boot(state, event.at)
    match event:
        case InstanceStored():
            return _stored(state, event), None
        case AssociationEnded():
            return _ended(state, event), None
        case PerformedStep():
            return replace(state, steps={**state.steps, event.step_uid: event.status}), None
        case Listed():
            return _listed(state, event), None
        case OrderKnown():
            return _ordered(state, event)
        case RhythmLearnt():
            return replace(state, rhythm=Rhythm(event.quiet_seconds, event.between_seconds, event.words)), None
        case Released():
            return _released(state)
        case Corrected():
            return _corrected(state, event), None
        case Tick():
            return _looked(state, event.at, policy, early=early)


def due_in_seconds(state: State, at: Instant, policy: ArrivalSection, *, early: bool = False) -> float | None:
    """Seconds until a `Tick` would decide if nothing else happened; None when only news can change anything."""
    if _rests(state):
        return None
    state = _same_boot(state, at)
    due = min(ground.due for ground in _grounds(state, policy, early=early))
    return max(0.0, due - at.seconds)


def _rests(state: State) -> bool:
    return state.phase is Phase.COMPLETE or state.last_at is None or state.first_at is None


def _grounds(state: State, policy: ArrivalSection, *, early: bool) -> list[Ground]:
    return [*grounds(state, policy), *(early_grounds(state, policy) if early else ())]


def _same_boot(state: State, at: Instant) -> State:
    """Start the waits anew when the machine was restarted: nobody can say how long it was off."""
    if state.last_at is None or state.last_at.boot_id == at.boot_id:
        return state
    now = at.seconds
    return replace(
        state,
        first_at=at,
        last_at=at,
        ended_at=at if state.ended_at else None,
        open=frozenset(),
        # Whatever stood open at the restart was cut off.
        broken=state.broken or bool(state.open),
        series={uid: replace(each, last=now) for uid, each in state.series.items()},
        lists={key: replace(each, told=now, same_since=now) for key, each in state.lists.items()},
    )


def _woken(state: State) -> State:
    """A study that was complete waits again; what it consists of is still known."""
    if state.phase is not Phase.COMPLETE:
        return state
    return replace(
        state,
        phase=Phase.WAITING,
        instances=0,
        first_at=None,
        last_at=None,
        ended_at=None,
        open=frozenset(),
        ended=0,
        broken=False,
        rhythm=None,
        ready=frozenset(),
    )


def _stored(state: State, event: InstanceStored) -> State:
    state = _woken(state)
    opened = frozenset([event.association_id]) if event.association_id else frozenset()
    before = state.series.get(event.series_uid, SeriesSeen(0, 0.0))
    return replace(
        state,
        instances=state.instances + event.count,
        total=state.total + event.count,
        first_at=state.first_at or event.at,
        last_at=event.at,
        open=state.open | opened,
        series={**state.series, event.series_uid: SeriesSeen(before.count + event.count, event.at.seconds)},
        ready=state.ready - {event.series_uid},
    )


def _corrected(state: State, event: Corrected) -> State:
    state = _woken(state)
    return replace(state, first_at=state.first_at or event.at, last_at=event.at, ready=frozenset())


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


def _listed(state: State, event: Listed) -> State:
    key = f"{event.source.name} {event.reference}"
    now = event.at.seconds
    listing = Listing(event.source, event.series, told=now, same_since=now, said_at=event.said_at)
    before = state.lists.get(key)
    if before is not None and before.names == listing.names:
        listing = replace(listing, same_since=before.same_since, spent=before.spent)
    return replace(state, lists={**state.lists, key: listing})


def _ordered(state: State, event: OrderKnown) -> tuple[State, Decision | None]:
    """An order that comes after the decision may be what a rule was waiting for: the rules are held against it."""
    state = replace(state, order=event.words)
    if state.phase is not Phase.COMPLETE:
        return state, None
    return state, Decision(state.run, "order", (event.words,), state.instances)


def _released(state: State) -> tuple[State, Decision | None]:
    if state.phase is not Phase.COMPLETE:
        return state, None
    return state, Decision(state.run, "released", ("an operator released the study",), state.instances)


def _looked(state: State, at: Instant, policy: ArrivalSection, *, early: bool) -> tuple[State, Decision | None]:
    if _rests(state):
        return state, None
    for ground in _grounds(state, policy, early=early):
        if ground.due <= at.seconds + _TOLERANCE_SECONDS:
            return _provisional(state, ground) if ground.series else _complete(state, ground)
    return state, None


def _provisional(state: State, ground: Ground) -> tuple[State, Decision]:
    ready = state.ready | ground.series
    evidence = (ground.words, *([state.order] if state.order else ()))
    decision = Decision(
        state.run + 1, ground.reason, evidence, state.instances, final=False, series=tuple(sorted(ready))
    )
    return replace(state, phase=Phase.PROVISIONAL, ready=ready), decision


def _complete(state: State, ground: Ground) -> tuple[State, Decision]:
    run = state.run + 1
    count = f"{state.instances} image(s) arrived"
    if run > 1 and not state.instances:
        count = f"images were corrected, none was added; run {run} supersedes run {run - 1}"
    elif run > 1:
        count = f"{state.instances} image(s) arrived after the study was complete; run {run} supersedes run {run - 1}"
    done = replace(
        state,
        phase=Phase.COMPLETE,
        run=run,
        open=frozenset(),
        ended=0,
        broken=False,
        ended_at=None,
        # A list that has been satisfied says nothing about what comes after it.
        lists={key: replace(each, spent=each.spent or not each.missing) for key, each in state.lists.items()},
    )
    evidence = (count, ground.words, *([state.order] if state.order else ()))
    return done, Decision(run, ground.reason, evidence, state.instances)
