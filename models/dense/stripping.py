"""For networks trained on stripped brains: nothing but the brain, its signal levelled against the coil's profile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.brain import brain_mask
from models.dense.options import BrainOnly
from models.errors import BrainNotFound
from models.morphology import Mask, Spacing
from models.tissue import NORMAL_RATIO, log_background, normal_level

Array = npt.NDArray[np.float32]
PROFILE_ORDER, REACH_MM = 3, 14.0
"""Of the polynomial that takes the coil's profile, and of the local mean that takes what is left."""
_MEASURED_UM2_S = (150.0, 1600.0)
_LEAST_NORMAL = 500


def brain_only(
    stack: Array, roles: Sequence[str], brain: BrainOnly, spacing_mm_zyx: Spacing
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The channels (channels, z, y, x) of ``roles`` with zero outside the brain, and the brain's envelope.

    Raises
    ------
    BrainNotFound
        Nothing in the images looks like a brain, or hardly any of it is normal.
    """
    adc = stack[roles.index(brain.adc)]
    found = brain_mask(stack[roles.index(brain.dwi)], adc, spacing_mm_zyx)
    stripped = np.where(found, stack, np.float32(0))
    for role in brain.level:
        channel = roles.index(role)
        stripped[channel] = levelled(stripped[channel], adc, found, spacing_mm_zyx)
    return stripped, found


def levelled(signal: Array, adc: Array, brain: Mask, spacing_mm_zyx: Spacing) -> Array:
    """``signal`` relative to what tissue of normal ADC would have at each voxel; zero outside ``brain``.

    Raises
    ------
    BrainNotFound
        Hardly any tissue has a normal ADC.
    """
    measured = brain & (signal > 0) & (adc > _MEASURED_UM2_S[0])
    ratio = adc / np.float32(max(normal_level(adc[measured & (adc < _MEASURED_UM2_S[1])]), 1.0))
    normal = measured & (ratio > NORMAL_RATIO[0]) & (ratio < NORMAL_RATIO[1])
    if np.count_nonzero(normal) < _LEAST_NORMAL:
        raise BrainNotFound("hardly any tissue has a normal ADC; there is nothing to compare with")
    least = 0.01 * float(np.median(signal[normal]))
    log = np.log(np.maximum(signal, np.float32(least)))
    background = log_background(log, brain, normal, spacing_mm_zyx, order=PROFILE_ORDER, reach_mm=REACH_MM)
    return np.where(measured, np.exp(log - background), np.float32(0)).astype(np.float32)
