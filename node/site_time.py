"""The site's wall clock, whatever the machine's own time zone is.

Dates and times in DICOM and HL7 are those of the hospital. A server that runs in UTC would ask a worklist or an archive
for the wrong day during part of each day; so each process takes the configured time zone before it does anything.
"""

from __future__ import annotations

import os
import re
import time
from datetime import datetime
from zoneinfo import ZoneInfo

from node.errors import ConfigError, UsageError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d|w)")
_SECONDS = {"m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def adopt(time_zone: str) -> None:
    """Make a time zone that of this process, and of the processes it starts. Empty: the machine's.

    Raises
    ------
    ConfigError
        The operating system does not know it, though Python does.
    """
    if not time_zone or os.environ.get("TZ") == time_zone:
        return
    os.environ["TZ"] = time_zone
    time.tzset()
    now = datetime.now().astimezone()
    # The C library takes a name that it does not know for UTC and says nothing.
    if now.utcoffset() != now.astimezone(ZoneInfo(time_zone)).utcoffset():
        raise ConfigError(
            f"node.time_zone: the operating system does not know '{time_zone}'; install its package tzdata"
        )


def seconds_of(date: str, clock: str) -> float | None:
    """Seconds since the epoch of a date (DA) and time (TM) by the site's wall clock; None where they do not parse."""
    digits = (clock.split(".")[0].replace(":", "") + "000000")[:6]
    try:
        return time.mktime(time.strptime(date.replace(".", "") + digits, "%Y%m%d%H%M%S"))
    except (ValueError, OverflowError):
        return None


def since(text: str, now: float) -> float:
    """A moment as people write it: ``90m``, ``3h``, ``2d`` ago, a date, or a date and time, with offset or without.

    Returns
    -------
    float
        Seconds since the epoch.

    Raises
    ------
    UsageError
        It is none of these.
    """
    if span := _SPAN.fullmatch(text.strip()):
        return now - float(span.group(1)) * _SECONDS[span.group(2)]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"'{text}' is no time; write 3h, 2d, 2026-01-31 or 2026-01-31T22:00") from error


def stamp(at: float | None) -> str:
    """A moment by the site's wall clock, with the zone's name: ``2026-01-31 22:00:07 JST``; a dash for None."""
    if at is None:
        return "–"
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def iso(at: float) -> str:
    """A moment in ISO 8601, to the second, with the site's offset."""
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")


def midnight(now: float) -> float:
    """Begin of the site's day."""
    return time.mktime((*time.localtime(now)[:3], 0, 0, 0, 0, 0, -1))


def zone() -> str:
    """Name of the site's time zone: as configured, with what it is called now."""
    named = os.environ.get("TZ", "")
    short = time.strftime("%Z")
    return f"{named} ({short})" if named and named != short else short
