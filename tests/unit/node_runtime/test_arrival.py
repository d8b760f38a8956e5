"""Arrival: tables of events and what is decided, and replay = fold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.arrival import (
    AssociationEnded,
    Decision,
    Event,
    InstanceStored,
    Instant,
    Listed,
    ListedSeries,
    OrderKnown,
    PerformedStep,
    Phase,
    Released,
    RhythmLearnt,
    Source,
    State,
    StepStatus,
    Tick,
    due_in_seconds,
    step,
)
from node.arrival.events import content_of, event_from
from node.settings import ArrivalSection

POLICY = ArrivalSection(
    quiet_seconds=20,
    association_end_quiet_seconds=5,
    maximum_wait_seconds=100,
    missing_wait_seconds=40,
    performed_step_wait_seconds=500,
    series_quiet_seconds=8,
    archive_settle_seconds=6,
)


def at(seconds: float, boot: str = "boot") -> Instant:
    return Instant(boot, seconds)


def stored(seconds: float, association: str | None = "a", count: int = 1) -> InstanceStored:
    return InstanceStored(at(seconds), association, count)


def ended(seconds: float, association: str = "a", *, orderly: bool = True) -> AssociationEnded:
    return AssociationEnded(at(seconds), association, orderly)


def tick(seconds: float, boot: str = "boot") -> Tick:
    return Tick(at(seconds, boot))


def performed(seconds: float, status: str, uid: str = "step") -> PerformedStep:
    return PerformedStep(at(seconds), uid, StepStatus(status))


def listing(
    seconds: float,
    *series: tuple[str, int, int],
    source: Source = Source.MPPS,
    reference: str = "step",
    said: float = 0.0,
) -> Listed:
    return Listed(at(seconds), source, reference, tuple(ListedSeries(*each) for each in series), said)


def of(series: str, seconds: float, count: int = 1, association: str = "a") -> InstanceStored:
    return InstanceStored(at(seconds), association, count, series)


def learnt(seconds: float, quiet: float, between: float) -> RhythmLearnt:
    return RhythmLearnt(at(seconds), quiet, between, "learnt: MR of A, 50 associations observed")


COUNT = {"source": Source.ARCHIVE, "reference": "pacs"}


def fold(events: list[Event], state: State = State()) -> tuple[State, list[Decision]]:
    decisions = []
    for event in events:
        state, decision = step(state, event, POLICY)
        if decision:
            decisions.append(decision)
    return state, decisions


@pytest.mark.parametrize(
    ("events", "reasons"),
    [
        ([], []),
        ([tick(1000)], []),
        ([stored(0), tick(19.9)], []),
        ([stored(0), tick(20)], ["quiet"]),
        ([stored(0), ended(1), tick(5.9)], []),
        ([stored(0), ended(1), tick(6)], ["association_end"]),
        ([stored(0), ended(1, orderly=False), tick(19)], []),
        ([stored(0), ended(1, orderly=False), tick(20)], ["quiet"]),
        # A second association of the study is still open: only the long quiet counts.
        ([stored(0, "a"), stored(1, "b"), ended(2, "a"), tick(8)], []),
        ([stored(0, "a"), stored(1, "b"), ended(2, "a"), tick(21)], ["quiet"]),
        ([stored(0, "a"), stored(1, "b"), ended(2, "a"), ended(3, "b"), tick(7.9), tick(8)], ["association_end"]),
        # The end of an association that carried nothing of the study proves nothing.
        ([stored(0), ended(1, "other"), tick(10)], []),
        # Images found on disk have no association.
        ([stored(0, None), tick(6), tick(20)], ["quiet"]),
        # A sender that never pauses does not hold the study forever.
        ([*[stored(t) for t in range(0, 100, 10)], tick(99), tick(100)], ["maximum_wait"]),
        # Ticks after completion decide nothing.
        ([stored(0), tick(20), tick(40), tick(60)], ["quiet"]),
        # Late images: complete again.
        ([stored(0), ended(1), tick(6), stored(50, "b"), ended(51, "b"), tick(55), tick(56)], ["association_end"] * 2),
        # Restarted machine: clocks cannot be compared, the wait starts anew, nothing fires at once.
        ([stored(1000), tick(5, "next"), tick(24, "next"), tick(25, "next")], ["quiet"]),
        # Release decides again what was complete, and nothing that still waits.
        ([stored(0), Released(at(1)), tick(20), Released(at(30))], ["quiet", "released"]),
    ],
)
def test_decisions(events: list[Event], reasons: list[str]) -> None:
    _, decisions = fold(events)
    assert [decision.reason for decision in decisions] == reasons
    assert all(decision.evidence for decision in decisions)


@pytest.mark.parametrize(
    ("events", "reasons"),
    [
        # An exact list decides at once, association open or not; a step in progress waits however long.
        ([of("1", 0, 3), listing(1, ("1", 3, 3)), tick(1)], ["mpps"]),
        ([performed(0, "IN PROGRESS"), of("1", 0, 3), ended(1), tick(400)], []),
        ([performed(0, "IN PROGRESS"), of("1", 0, 3), ended(1), tick(501)], ["step_unfinished"]),
        (
            [performed(0, "IN PROGRESS"), of("1", 0, 3), performed(9, "COMPLETED"), listing(9, ("1", 3, 3)), tick(9)],
            ["mpps"],
        ),
        # Two steps of one study: the end of one is not the end.
        (
            [
                *[performed(0, "IN PROGRESS", "a"), performed(0, "IN PROGRESS", "b"), of("1", 0, 3)],
                *[performed(9, "COMPLETED", "a"), listing(9, ("1", 3, 3), reference="a"), tick(60)],
                *[of("2", 70, 2), performed(71, "COMPLETED", "b"), listing(71, ("2", 2, 2), reference="b"), tick(71)],
            ],
            ["mpps"],
        ),
        # A list with something missing holds back what silence would decide, for a while.
        ([of("1", 0, 2), ended(1), listing(1, ("1", 3, 2)), tick(40)], []),
        ([of("1", 0, 2), ended(1), listing(1, ("1", 3, 2)), tick(41)], ["missing"]),
        ([of("1", 0, 2), listing(1, ("1", 3, 2)), of("1", 30), listing(30, ("1", 3, 3)), tick(30)], ["mpps"]),
        # More is here than was listed, and the sender is not through: the list came too early.
        ([of("1", 0, 3), listing(1, ("1", 2, 2)), tick(1)], []),
        ([of("1", 0, 3), listing(1, ("1", 2, 2)), ended(2), tick(2)], ["mpps"]),
        # Discontinued: what came is answered all the same.
        (
            [performed(0, "IN PROGRESS"), of("1", 0), performed(3, "DISCONTINUED"), ended(3), tick(8)],
            ["association_end"],
        ),
        ([of("1", 0, 3), listing(1, ("1", 3, 3), source=Source.NOTIFICATION), tick(1)], ["notification"]),
        # A commitment request may be for the first series only: it takes the pause after an association.
        ([of("1", 0, 3), listing(1, ("", 3, 3), source=Source.COMMITMENT), tick(5)], []),
        ([of("1", 0, 3), listing(1, ("", 3, 3), source=Source.COMMITMENT), tick(6)], ["commitment"]),
        ([of("1", 0, 3), listing(1, ("", 2, 2), source=Source.COMMITMENT), tick(6)], []),
        # The archive's count: at once where the sender is through, else two equal answers; and more there is more to come.
        ([of("1", 0, 3), ended(1), listing(2, ("1", 3, 3), **COUNT), tick(2)], ["archive"]),
        ([of("1", 0, 3), listing(2, ("1", 3, 3), **COUNT), tick(15)], []),
        (
            [of("1", 0, 3), listing(2, ("1", 3, 3), **COUNT), listing(8, ("1", 3, 3), said=1.0, **COUNT), tick(8)],
            ["archive"],
        ),
        ([of("1", 0, 3), ended(1), listing(2, ("1", 5, 3), **COUNT), tick(41)], []),
        ([of("1", 0, 3), ended(1), listing(2, ("1", 5, 3), **COUNT), tick(42)], ["missing"]),
        ([of("1", 0, 3), ended(1), listing(2, ("1", 2, 2), **COUNT), tick(5.9), tick(6)], ["association_end"]),
        # What was learnt of the sender takes the place of the settings, in either direction.
        ([of("1", 0), learnt(0, 4, 2), ended(1), tick(3)], ["association_end"]),
        ([of("1", 0), learnt(0, 90, 60), ended(1), tick(60.9), tick(61)], ["association_end"]),
        ([of("1", 0), learnt(0, 4, 2), tick(4)], ["quiet"]),
        ([of("1", 0, 3), learnt(0, 90, 60), ended(1), listing(2, ("1", 3, 3), **COUNT), tick(20)], []),
        # A list that a decision has used says nothing about what comes after it.
        (
            [of("1", 0, 3), listing(1, ("1", 3, 3)), tick(1), of("2", 50, 1, "b"), listing(50, ("1", 3, 3)), tick(50)],
            ["mpps"],
        ),
        # One that was short when the wait ended still counts when the rest comes.
        (
            [of("1", 0, 2), listing(1, ("1", 3, 2)), tick(41), of("1", 90, 1, "b"), listing(90, ("1", 3, 3)), tick(90)],
            ["missing", "mpps"],
        ),
        # An order is decided about when it comes late, and is only a word before.
        ([OrderKnown(at(0), False, "order"), of("1", 0), tick(20)], ["quiet"]),
        ([of("1", 0), tick(20), OrderKnown(at(50), True, "order")], ["quiet", "order"]),
    ],
)
def test_decisions_by_evidence(events: list[Event], reasons: list[str]) -> None:
    _, decisions = fold(events)
    assert [decision.reason for decision in decisions] == reasons
    assert all(decision.evidence and decision.final for decision in decisions)


def test_evidence_counts_in_words() -> None:
    _, (decision,) = fold(
        [of("1", 0, 400), of("2", 0, 12), listing(1, ("1", 400, 400), ("2", 10, 10)), ended(2), tick(2)]
    )
    assert decision.evidence[1] == "complete: 2 of 2 series, 410 of 410 instances by MPPS; 2 more image(s) are here"


def early(events: list[Event]) -> list[Decision]:
    state, decisions = State(), []
    for event in events:
        state, decision = step(state, event, POLICY, early=True)
        decisions += [decision] if decision else []
    return decisions


def test_a_series_is_complete_when_another_one_has_begun() -> None:
    events = [of("1", 0, 5), tick(19), of("2", 19), tick(19), of("2", 25), tick(26)]
    (decision,) = early(events)
    assert (decision.final, decision.series, decision.run) == (False, ("1",), 1)
    # An image of it that comes after all makes it wait again; the study's end is the end.
    later = [*events, of("1", 27), tick(28), of("2", 40), tick(46), ended(46), tick(60)]
    assert [(each.final, each.series) for each in early(later)][1:] == [(False, ("1",)), (True, ())]
    assert early([of("1", 0, 5), tick(19)]) == []


def test_a_series_that_a_list_names_wholly_is_complete_at_once() -> None:
    events = [
        *[performed(0, "IN PROGRESS", "b"), of("1", 0, 5), performed(1, "COMPLETED", "a")],
        *[listing(1, ("1", 5, 5), reference="a"), tick(1)],
    ]
    (decision,) = early(events)
    assert decision.series == ("1",) and "by MPPS" in decision.evidence[0]
    assert fold(events)[1] == []


@pytest.mark.parametrize(
    "event",
    [
        of("1", 3, 4),
        ended(3, orderly=False),
        performed(3, "COMPLETED"),
        listing(3, ("1", 5, 4), said=7.5),
        OrderKnown(at(3), True, "words"),
        learnt(3, 1.5, 2.5),
        tick(3),
        Released(at(3)),
    ],
)
def test_every_event_survives_the_history(event: Event) -> None:
    assert event_from(type(event).__name__, event.at, content_of(event)) == event


def test_runs_count_up_and_evidence_speaks() -> None:
    _, (first, second) = fold([stored(0, count=40), ended(1), tick(6), stored(50, count=2), ended(51), tick(56)])
    assert (first.run, first.instances, second.run, second.instances) == (1, 40, 2, 2)
    assert "40 image(s)" in first.evidence[0] and "ended orderly" in first.evidence[1]
    assert "run 2 supersedes run 1" in second.evidence[0]


def test_reboot_with_open_association_waits_for_the_long_quiet() -> None:
    _, decisions = fold([stored(0, "a"), stored(0, "b"), ended(1, "a"), tick(0, "next"), tick(6, "next")])
    assert decisions == []


_KINDS = ["stored", "ended", "tick", "released", "step", "listed", "learnt"]
_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(_KINDS),
        st.floats(0, 60),
        st.sampled_from("ab"),
        st.booleans(),
    ),
    max_size=30,
)


def _made(raw: list[tuple[str, float, str, bool]]) -> list[Event]:
    events: list[Event] = []
    now = 0.0
    for kind, pause, association, orderly in raw:
        now += pause
        match kind:
            case "stored":
                events.append(InstanceStored(at(now), association, 1, association))
            case "ended":
                events.append(ended(now, association, orderly=orderly))
            case "tick":
                events.append(tick(now))
            case "step":
                events.append(performed(now, "IN PROGRESS" if orderly else "COMPLETED", association))
            case "listed":
                source = Source.MPPS if orderly else Source.ARCHIVE
                events.append(listing(now, ("", 3, len(events) % 4), source=source, reference=association))
            case "learnt":
                events.append(learnt(now, 7.0, 3.0))
            case _:
                events.append(Released(at(now)))
    return events


@settings(max_examples=150, deadline=None)
@given(_EVENTS, st.integers(0, 30))
def test_replay_is_a_fold_and_survives_a_restart_anywhere(raw: list[tuple[str, float, str, bool]], cut: int) -> None:
    """Storing the state as JSON between any two events changes nothing."""
    events = _made(raw)
    whole, decisions = fold(events)
    half, first = fold(events[:cut])
    again, second = fold(events[cut:], State.from_dict(half.to_dict()))
    assert again == whole
    assert first + second == decisions


@settings(max_examples=150, deadline=None)
@given(_EVENTS, st.floats(-1e6, 1e6))
def test_only_differences_of_time_count(raw: list[tuple[str, float, str, bool]], shift: float) -> None:
    """The zero of the clock means nothing: decisions are those of the same events at another time."""
    raw = [(kind, round(pause), association, orderly) for kind, pause, association, orderly in raw]
    events = _made(raw)
    moved = [replace(event, at=at(event.at.seconds + round(shift))) for event in events]
    assert [d.reason for d in fold(events)[1]] == [d.reason for d in fold(moved)[1]]


@settings(max_examples=150, deadline=None)
@given(_EVENTS)
def test_due_time_is_exact(raw: list[tuple[str, float, str, bool]]) -> None:
    """A tick at the due time decides; a complete study has none."""
    state, _ = fold(_made(raw))
    now = sum(pause for _, pause, _, _ in raw)
    due = due_in_seconds(state, at(now), POLICY)
    if state.phase is Phase.COMPLETE or state.last_at is None:
        assert due is None
        return
    assert due is not None
    assert step(state, tick(now + due + 1e-6), POLICY)[1] is not None
    if due > 1e-3:
        assert step(state, tick(now + due - 1e-3), POLICY)[1] is None
