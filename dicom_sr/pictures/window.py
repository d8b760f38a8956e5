"""From values of a volume to grey: the window the images ask for, or one from the values themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_sr.pixels import READ_ERRORS

if TYPE_CHECKING:
    from dicom_sr.series import SeriesVolume

_DARKEST, _BRIGHTEST = 1.0, 99.7
"""Percentiles that become black and white where the images ask for nothing."""
_SAMPLES = 200_000


@dataclass(frozen=True, slots=True)
class Window:
    """Values that become black and white; ``inverted`` shows low values bright (MONOCHROME1, PS3.3 C.7.6.3.1.2)."""

    low: float
    high: float
    inverted: bool = False

    def grey(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """uint8 of the same shape."""
        span = max(self.high - self.low, 1e-6)
        level = np.clip((np.nan_to_num(values) - self.low) / span, 0.0, 1.0)
        return np.rint((1.0 - level if self.inverted else level) * 255.0).astype(np.uint8)


def window_of(source: SeriesVolume, headers: Sequence[Dataset]) -> Window:
    """Window of a volume, the same for all of its slices.

    Parameters
    ----------
    source : SeriesVolume
        Values, and the photometric interpretation in its header.
    headers : sequence of Dataset
        Headers of its instances.

    Notes
    -----
    The VOI window (PS3.3 C.11.2) counts only where all slices have the same one and the values lie about it: the
    volume may hold values in another unit than the window's. Everywhere else percentiles of the values are taken.
    """
    values = source.volume.array_zyx.ravel()
    sample = values[:: max(1, len(values) // _SAMPLES)]
    sample = sample[np.isfinite(sample)]
    inverted = str(source.header.get("PhotometricInterpretation", "")) == "MONOCHROME1"
    stated = _stated(headers)
    if stated is not None and _fits(*stated, sample):
        return Window(*stated, inverted)
    low, high = np.percentile(sample, (_DARKEST, _BRIGHTEST)) if len(sample) else (0.0, 1.0)
    if high <= low:
        high = float(sample.max()) if len(sample) and sample.max() > low else low + 1.0
    return Window(float(low), float(high), inverted)


def _stated(headers: Sequence[Dataset]) -> tuple[float, float] | None:
    """Black and white of the one window that all slices share; None where there is none."""
    found: set[tuple[float, float] | None] = set()
    for header in headers:
        try:
            found |= set(_windows(header))
        except READ_ERRORS:
            return None
    return found.pop() if len(found) == 1 else None


def _windows(header: Dataset) -> Iterator[tuple[float, float] | None]:
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        yield _window(header)
        return
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for groups in frames:
        items = groups.get("FrameVOILUTSequence") or shared[0].get("FrameVOILUTSequence")
        yield _window(items[0]) if items else None


def _window(item: Dataset) -> tuple[float, float] | None:
    """First window of the VOI LUT macro (PS3.3 C.11.2.1.2, C.11.2.1.3)."""
    centre, width = _first(item.get("WindowCenter")), _first(item.get("WindowWidth"))
    if centre is None or width is None or not math.isfinite(centre + width) or width <= 0:
        return None
    if str(item.get("VOILUTFunction", "") or "LINEAR") == "LINEAR":
        if width <= 1:
            return None
        return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return centre - width / 2, centre + width / 2


def _first(value: object) -> float | None:
    if isinstance(value, MultiValue | list):
        value = value[0] if value else None
    return None if value is None or value == "" else float(str(value))


def _fits(low: float, high: float, sample: npt.NDArray[np.float32]) -> bool:
    """Whether a window shows something of the values: neither all white nor all black."""
    if not len(sample):
        return False
    most, brightest = np.percentile(sample, (75.0, 99.5))
    return bool(high > most and brightest > low + 0.1 * (high - low))
