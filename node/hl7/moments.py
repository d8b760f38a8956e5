"""DTM of HL7 v2 (chapter 2A.3.22): with an offset from UTC, else by the site's wall clock."""

from __future__ import annotations

import re
from datetime import datetime

from node.site_time import seconds_of

_MOMENT = re.compile(r"(\d{8})(\d{0,6})(?:\.\d+)?([+-]\d{4})?")


def seconds(text: str) -> float | None:
    """Seconds since the epoch; None where there is no day, or it is none."""
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        return None
    day, clock, offset = match.groups()
    if not offset:
        return seconds_of(day, clock)
    try:
        digits = (clock + "000000")[:6]
        return datetime.strptime(f"{day}{digits}{offset}", "%Y%m%d%H%M%S%z").timestamp()
    except (ValueError, OverflowError):
        return None
