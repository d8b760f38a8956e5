"""Spans of time in which a destination is not to be called: every day, on a day of the week, or once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKLY = re.compile(r"(?:(?P<day>[a-z]{3}) )?(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """One occurrence, in local time of the site."""

    begin: datetime
    end: datetime


def spans_around(text: str, moment: datetime) -> list[Span]:
    """Occurrences of a window that may cover ``moment`` (local time, without time zone).

    Parameters
    ----------
    text : str
        ``"22:00-02:30"`` every day, ``"sun 01:00-05:00"`` on a day of the week (its beginning counts),
        ``"2026-12-01T20:00/2026-12-02T04:00"`` once.

    Raises
    ------
    ValueError
        It has none of these forms, or does not end after it begins.
    """
    if "/" in text:
        begin, end = (datetime.fromisoformat(part) for part in text.split("/", 1))
        if begin.tzinfo or end.tzinfo or end <= begin:
            raise ValueError("the window must end after it begins, in local time without a zone")
        return [Span(begin, end)]
    found = _WEEKLY.fullmatch(text.lower())
    if found is None or (found["day"] and found["day"] not in _DAYS):
        raise ValueError("is no window: write 22:00-02:30, sun 01:00-05:00 or 2026-12-01T20:00/2026-12-02T04:00")
    begin_at, end_at = (datetime.strptime(found[part], "%H:%M").time() for part in ("begin", "end"))
    spans = []
    for day in (moment.date() - _DAY, moment.date()):
        if found["day"] and _DAYS[day.weekday()] != found["day"]:
            continue
        begin, end = datetime.combine(day, begin_at), datetime.combine(day, end_at)
        spans.append(Span(begin, end if end > begin else end + _DAY))
    return spans


def closed_until(windows: list[str], now: float) -> float | None:
    """When the window ends that covers ``now``; None where none does.

    Parameters
    ----------
    now : float
        Seconds since the epoch.

    Returns
    -------
    float or None
        Seconds since the epoch; of several windows the latest end.
    """
    moment = datetime.fromtimestamp(now)
    ends = [
        span.end.timestamp()
        for text in windows
        for span in spans_around(text, moment)
        if span.begin <= moment < span.end
    ]
    return max(ends, default=None)


def _window(value: str) -> str:
    spans_around(value, datetime(2026, 1, 1))
    return value


Window = Annotated[str, AfterValidator(_window)]
