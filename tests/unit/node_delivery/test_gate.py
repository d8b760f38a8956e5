"""When a destination is called, and how fast a backlog leaves."""

from __future__ import annotations

from datetime import datetime

import pytest
from pydantic import ValidationError

from node.delivery.breaker import Breaker
from node.delivery.gate import Gate
from node.delivery.proposed_profile import proposed_profile
from node.settings import DestinationSection
from node.settings.window import closed_until


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("window", "moment", "until"),
    [
        ("02:00-02:30", "2026-11-24T02:10:00", "2026-11-24T02:30:00"),
        ("02:00-02:30", "2026-11-24T02:30:00", None),
        ("22:00-02:30", "2026-11-24T23:10:00", "2026-11-25T02:30:00"),
        ("22:00-02:30", "2026-11-24T01:10:00", "2026-11-24T02:30:00"),
        ("22:00-02:30", "2026-11-24T12:00:00", None),
        ("sun 22:00-04:00", "2026-11-23T03:59:00", "2026-11-23T04:00:00"),  # a Monday
        ("sun 22:00-04:00", "2026-11-24T03:59:00", None),
        ("2026-12-01T20:00/2026-12-02T04:00", "2026-12-02T03:00:00", "2026-12-02T04:00:00"),
        ("2026-12-01T20:00/2026-12-02T04:00", "2026-12-03T03:00:00", None),
    ],
)
def test_windows(window: str, moment: str, until: str | None) -> None:
    assert closed_until([window], at(moment)) == (None if until is None else at(until))


@pytest.mark.parametrize("window", ["25:00-26:00", "sometimes", "xyz 01:00-02:00", "2026-12-02T04:00/2026-12-01T04:00"])
def test_what_is_no_window_is_refused(window: str) -> None:
    with pytest.raises(ValidationError):
        DestinationSection(ae_title="A", host="h", port=104, downtime=[window])


def gate(*, rate: int = 0, downtime: tuple[str, ...] = ()) -> Gate:
    return Gate(Breaker(failures=2, pause_seconds=30.0), downtime=list(downtime), catch_up_per_minute=rate)


def test_downtime_is_told_apart_from_an_outage() -> None:
    planned, broken = gate(downtime=("00:00-23:59",)), gate()
    now = at("2026-11-24T12:00:00")
    closed = planned.closed(now)
    assert closed is not None
    assert closed.planned
    assert broken.closed(now) is None
    assert not broken.failed(now)
    assert broken.failed(now)
    closed = broken.closed(now + 10)
    assert closed is not None
    assert (closed.seconds, closed.planned) == (20.0, False)


def test_a_backlog_leaves_at_the_rate_and_the_rest_at_once() -> None:
    """60 in a minute, in bursts of 6."""
    limited, now = gate(rate=60), 1000.0
    sent = 0
    for second in range(60):
        allowed = limited.allowance(now + second, 16)
        limited.used(allowed, wanted=allowed or 16)
        sent += allowed
    assert 60 <= sent <= 66
    # Fewer wanted to leave than might have: the backlog is gone, and nothing is limited any more.
    limited.used(0, wanted=1)
    assert limited.allowance(now + 61, 16) == 16
    limited.failed(now + 62)
    assert limited.allowance(now + 63, 16) < 16
    assert gate().allowance(now, 16) == 16


SEG, LABEL_MAP, TEXT = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.66.7",
    "1.2.840.10008.5.1.4.1.1.88.11",
)
SR_3D, SR_ENHANCED = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.22"
EXPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"


def test_the_profile_proposed_is_what_is_taken() -> None:
    everything = dict.fromkeys((SEG, LABEL_MAP, TEXT, SR_3D, SR_ENHANCED), (EXPLICIT, RLE))
    assert proposed_profile(everything, charset="kept") == {"objects": ["seg", "measurements", "text", "status"]}
    little = {SEG: (), LABEL_MAP: (EXPLICIT, RLE), TEXT: (EXPLICIT,), SR_3D: (), SR_ENHANCED: (EXPLICIT,)}
    assert proposed_profile(little, charset="changed") == {
        "objects": ["seg", "measurements", "text", "status"],
        "segmentation": "labelmap",
        "segmentation_syntax": "rle",
        "measurements": "enhanced",
        "character_set": "iso-2022-jp",
    }
