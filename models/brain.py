"""Find the brain on diffusion MR: bright on DWI with a tissue-like ADC, the largest such body in the head."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.errors import BrainNotFound
from models.morphology import (
    Mask,
    Spacing,
    bounding_box,
    closed,
    depth_mm,
    dilated,
    filled_in_plane,
    largest_component,
    otsu_threshold,
    smoothed,
)

TISSUE_ADC_UM2_S = (200.0, 1800.0)
"""Wide on purpose: a scanner's ADC scale may be off, and infarct must stay inside."""
SMOOTHING_MM = 1.5
OPENING_MM = 3.0
"""Half width of the bridges (optic nerves, vessels, fat) that are cut between brain and scalp."""
COIL_PROFILE_MM = 12.0
CLOSING_MM = 8.0
"""Closes sulci and ventricles into the brain's envelope."""
STRIPPED_EXCESS = 1.45
"""Occupied (non-zero) volume relative to the brain's, below which images count as skull-stripped beforehand."""

Signal = npt.NDArray[np.float32]


def brain_mask(dwi: Signal, adc: Signal, spacing_mm: Spacing) -> Mask:
    """Envelope of the brain, ventricles and sulci included.

    Otsu on the smoothed DWI, erosion, largest component; then a second pass relative to the local signal level, since a
    surface coil makes scalp beside the coil brighter than deep brain; dilation back, closing, filling. Of images that are
    skull-stripped already, background (exactly 0) that the closing took in is given back.

    Parameters
    ----------
    dwi, adc : numpy.ndarray
        (z, y, x); ADC in 10⁻⁶ mm²/s.
    spacing_mm : tuple of float
        Voxel spacing along z, y, x.

    Raises
    ------
    BrainNotFound
        Nothing in the image looks like a brain.
    """
    signal = np.asarray(ndimage.gaussian_filter(dwi, [SMOOTHING_MM / step for step in spacing_mm]))
    positive = signal[signal > 0]
    if positive.size < 1000:
        raise BrainNotFound("the diffusion-weighted images are all but empty")
    bright = otsu_threshold(np.sqrt(np.minimum(positive, np.percentile(positive, 99.5)))) ** 2
    box = bounding_box(signal > 0.3 * bright, margin=2)
    envelope = np.zeros(dwi.shape, dtype=bool)
    envelope[box] = _envelope(signal[box], adc[box], bright, spacing_mm)
    if is_skull_stripped(dwi, envelope):
        envelope &= dwi > 0
    return filled_in_plane(envelope)


def _envelope(signal: Signal, adc: Signal, bright: float, spacing_mm: Spacing) -> Mask:
    """Envelope of the brain in smoothed DWI, of which Otsu's threshold is ``bright``."""
    tissue_like = (adc > TISSUE_ADC_UM2_S[0]) & (adc < TISSUE_ADC_UM2_S[1])
    candidate = (signal > bright) & tissue_like
    core = largest_component(depth_mm(candidate, spacing_mm) > OPENING_MM + 0.5)
    near = core  # what the coil profile reaches
    for _ in range(2):
        weight = smoothed(core, COIL_PROFILE_MM, spacing_mm)
        level = smoothed(signal * core, COIL_PROFILE_MM, spacing_mm) / np.maximum(weight, 1e-3)
        near = weight > 1e-3
        candidate = near & (signal > 0.45 * level) & (signal > 0.3 * bright) & tissue_like
        core = largest_component(depth_mm(candidate, spacing_mm) > OPENING_MM)
    if not core.any():
        raise BrainNotFound("no body of tissue wide enough for a brain was found")
    fluid = near & (adc >= TISSUE_ADC_UM2_S[1])
    reach = dilated(core, OPENING_MM + 0.5 * min(spacing_mm), spacing_mm)
    return closed(largest_component(reach & (candidate | fluid)), CLOSING_MM, spacing_mm)


def is_skull_stripped(dwi: Signal, brain: Mask) -> bool:
    """Whether everything outside the brain, scalp too, was set to exactly zero beforehand."""
    return bool(np.count_nonzero(dwi > 0) < STRIPPED_EXCESS * np.count_nonzero(brain))
