"""The date and time objects carry: read from the sources, never from a clock.

The same work has to give the same bytes, today and after a restart, so nothing here asks what time it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from pydicom.dataset import Dataset

_DATE = re.compile(r"\d{8}")
_TIME = re.compile(r"(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?")
_DATE_TIME = re.compile(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)?(?:[+-]\d{4})?")

_PAIRS = (
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)


def valid_date(value: object) -> str:
    """``value`` as DA (PS3.5 6.2) when it is a day of the calendar, else an empty string."""
    text = str(value or "").strip()
    if not _DATE.fullmatch(text):
        return ""
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return ""
    return text


def valid_time(value: object) -> str:
    """``value`` as TM (PS3.5 6.2) when it is a time of day, else an empty string. Nothing is added to it."""
    text = str(value or "").strip()
    match = _TIME.fullmatch(text)
    if match is None or (match[4] and not match[3]):
        return ""
    hour, minute, second = (int(match[n] or 0) for n in (1, 2, 3))
    return text if hour < 24 and minute < 60 and second < 60 else ""


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A date (``YYYYMMDD``) and a time of day (``HHMMSS.FFFFFF``); both empty when the sources say nothing."""

    date: str = ""
    time: str = ""

    @property
    def date_time(self) -> str:
        """As DT, empty when unknown."""
        return self.date + self.time if self.date else ""


UNKNOWN = Moment("19000101", "000000.000000")
"""Stands in attributes of Type 1 when no source has a readable date. Recognisable, and never the patient's."""


def _moment(day: object, time: object) -> Moment | None:
    if not (text := valid_date(day)):
        return None
    clock = valid_time(time)
    whole, _, fraction = clock.partition(".")
    return Moment(text, f"{whole:0<6}.{fraction:0<6}")


def _moments(header: Dataset) -> Iterable[Moment | None]:
    match = _DATE_TIME.fullmatch(str(header.get("AcquisitionDateTime", "") or "").strip())
    if match:
        yield _moment(match[1], match[2] or "")
    for day, time in _PAIRS:
        if day in header:
            yield _moment(header[day].value, header.get(time, ""))


def latest(headers: Iterable[Dataset]) -> Moment:
    """Latest acquisition, content, series or study date-time among ``headers``; an empty Moment when none is readable.

    A date without a readable time counts as midnight. An offset from UTC in a DT is not applied: all attributes of
    one study are the site's wall clock.
    """
    found = [moment for header in headers for moment in _moments(header) if moment is not None]
    return max(found, default=Moment())
