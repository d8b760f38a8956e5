"""How the range of a volume over a threshold sweep (:mod:`models.sweep`) is told, for those who only read it."""

from __future__ import annotations

from collections.abc import Sequence

from models.results import Quantity

MEANING = "volume over decision thresholds"
"""What :attr:`models.results.Quantity.interval_meaning` of a sweep begins with."""
EVIDENCE = "threshold_sweep"
"""Key of the sweep in :attr:`models.results.StudyResult.evidence`: threshold → [strict, lax]."""

VOLUME_CODE = "118565006"
Interval = tuple[float, float]


def range_ml(quantities: Sequence[Quantity]) -> Interval | None:
    """Range of the volume among ``quantities`` over a threshold sweep, mL; None where there is none."""
    for each in quantities:
        if each.name.value == VOLUME_CODE and each.interval_meaning.startswith(MEANING):
            return each.interval
    return None
