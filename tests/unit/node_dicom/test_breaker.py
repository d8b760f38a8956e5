"""Circuit breaker over a made-up clock."""

from __future__ import annotations

from node.delivery.breaker import Breaker


def test_opens_after_consecutive_failures_and_tries_once_after_the_pause() -> None:
    breaker = Breaker(failures=3, pause_seconds=30)
    assert [breaker.failed(now) for now in (0, 1)] == [False, False]
    assert breaker.remaining(2) == 0
    assert breaker.failed(2)
    assert breaker.remaining(12) == 20
    assert breaker.remaining(32) == 0
    # Half open: one more failure pauses again, without being news.
    assert not breaker.failed(32)
    assert breaker.remaining(33) == 29
    assert breaker.succeeded()
    assert breaker.remaining(33) == 0


def test_a_success_starts_the_count_anew() -> None:
    breaker = Breaker(failures=2, pause_seconds=30)
    breaker.failed(0)
    assert not breaker.succeeded()
    assert not breaker.failed(1)
    assert breaker.remaining(1) == 0
