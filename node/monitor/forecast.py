"""How long the disk will last: hourly samples of free space, and a straight line through them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FILE = "disk-history.json"
_DAY_SECONDS = 86400.0
_KEPT_DAYS = 14.0
_LEAST_SAMPLES = 3
_LEAST_SPAN_SECONDS = 2 * 3600.0
NEVER_DAYS = 3650.0
"""Given for a disk that does not fill."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Free bytes at a moment, in seconds since the epoch."""

    at: float
    free_bytes: int


def days_to_reserve(samples: Sequence[Sample], reserve_bytes: int) -> float | None:
    """Days until free space reaches the reserve, by least squares; None where too little is known.

    Returns
    -------
    float or None
        At most :data:`NEVER_DAYS`; 0 where the reserve is reached.
    """
    if len(samples) < _LEAST_SAMPLES or samples[-1].at - samples[0].at < _LEAST_SPAN_SECONDS:
        return None
    left = samples[-1].free_bytes - reserve_bytes
    if left <= 0:
        return 0.0
    mean_at = sum(each.at for each in samples) / len(samples)
    mean_free = sum(each.free_bytes for each in samples) / len(samples)
    spread = sum((each.at - mean_at) ** 2 for each in samples)
    slope = sum((each.at - mean_at) * (each.free_bytes - mean_free) for each in samples) / spread
    if slope >= 0:
        return NEVER_DAYS
    return min(NEVER_DAYS, left / -slope / _DAY_SECONDS)


def take_sample(data_dir: Path) -> None:
    """Add the free space of now to the history of the last two weeks."""
    now = time.time()
    kept = [each for each in history(data_dir) if 0 <= now - each.at < _KEPT_DAYS * _DAY_SECONDS]
    kept.append(Sample(now, shutil.disk_usage(data_dir).free))
    path = _path(data_dir)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(".part")
    part.write_text(json.dumps([[each.at, each.free_bytes] for each in kept]), encoding="utf-8")
    part.replace(path)


def history(data_dir: Path) -> list[Sample]:
    """Samples, oldest first; empty where there are none or the file is damaged."""
    try:
        rows = json.loads(_path(data_dir).read_text(encoding="utf-8"))
        return [Sample(float(at), int(free)) for at, free in rows]
    except (OSError, ValueError, TypeError):
        return []


def _path(data_dir: Path) -> Path:
    return data_dir / "run" / _FILE
