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
    Phase,
    Released,
    State,
    Tick,
    due_in_seconds,
    step,
)
from node.settings import ArrivalSection

POLICY = ArrivalSection(quiet_seconds=20, association_end_quiet_seconds=5, maximum_wait_seconds=100)


def at(seconds: float, boot: str = "boot") -> Instant:
    return Instant(boot, seconds)


def stored(seconds: float, association: str | None = "a", count: int = 1) -> InstanceStored:
    return InstanceStored(at(seconds), association, count)


def ended(seconds: float, association: str = "a", *, orderly: bool = True) -> AssociationEnded:
    return AssociationEnded(at(seconds), association, orderly)


def tick(seconds: float, boot: str = "boot") -> Tick:
    return Tick(at(seconds, boot))


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


def test_runs_count_up_and_evidence_speaks() -> None:
    _, (first, second) = fold([stored(0, count=40), ended(1), tick(6), stored(50, count=2), ended(51), tick(56)])
    assert (first.run, first.instances, second.run, second.instances) == (1, 40, 2, 2)
    assert "40 image(s)" in first.evidence[0] and "ended orderly" in first.evidence[1]
    assert "run 2 supersedes run 1" in second.evidence[0]


def test_reboot_with_open_association_waits_for_the_long_quiet() -> None:
    _, decisions = fold([stored(0, "a"), stored(0, "b"), ended(1, "a"), tick(0, "next"), tick(6, "next")])
    assert decisions == []


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["stored", "ended", "tick", "released"]), st.floats(0, 60), st.sampled_from("ab"), st.booleans()
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
                events.append(stored(now, association))
            case "ended":
                events.append(ended(now, association, orderly=orderly))
            case "tick":
                events.append(tick(now))
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
