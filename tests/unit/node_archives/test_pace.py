"""Slower as the archive slows, faster when it has recovered; and moments as people write them."""

from __future__ import annotations

import pytest

from node.errors import UsageError
from node.pace import Pace
from node.site_time import seconds_of, since


def _after(pace: Pace, *responses: float) -> Pace:
    for response in responses:
        pace = pace.after(response)
    return pace


def test_pauses_follow_the_response_times() -> None:
    pace = _after(Pace(), *[0.1] * 10)
    assert pace.pause_seconds == 0.0 and pace.usual_seconds == pytest.approx(0.1)
    slowed = [pace := pace.after(0.5) for _ in range(4)]
    assert [each.pause_seconds for each in slowed] == [0.5, 1.0, 2.0, 4.0]
    # Slow for long does not become usual.
    assert _after(pace, *[0.5] * 100).pause_seconds == 60.0
    recovered = [pace := pace.after(0.1) for _ in range(5)]
    assert [each.pause_seconds for each in recovered] == [2.0, 1.0, 0.5, 0.25, 0.0]


def test_a_slow_archive_stays_usable_and_a_refusal_slows() -> None:
    assert _after(Pace(), *[3.0] * 20).pause_seconds == 0.0
    assert Pace().refused().refused().pause_seconds == 2.0


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("3h", 10800), ("2d", 172800), ("0m", 0)])
def test_spans(text: str, seconds: float) -> None:
    assert since(text, 1e9) == 1e9 - seconds


def test_moments() -> None:
    assert since("2026-02-11T00:10+09:00", 0.0) == since("2026-02-10T15:10+00:00", 0.0)
    assert since("2026-02-11T00:10", 0.0) == seconds_of("20260211", "001000.5")
    assert seconds_of("2026.02.11", "00:10") == seconds_of("20260211", "0010")
    assert seconds_of("", "1010") is None
    with pytest.raises(UsageError, match="write 3h"):
        since("yesterday", 0.0)
