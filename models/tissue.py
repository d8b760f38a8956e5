"""The patient's own normal tissue as the yardstick: its ADC, its signal under the coil's profile, its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.morphology import Mask, Spacing, smoothed

Map = npt.NDArray[np.float32]
NORMAL_RATIO = (0.87, 1.30)
"""ADC relative to the median within which tissue counts as normal; infarct lies below, oedema and CSF above."""
MAD_TO_SIGMA = 1.4826
SIDES_DIFFER = 0.04
"""Relative difference of the sides' median ADC from which only the higher one is normal; healthy brains stay at 0.012."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and robust standard deviation (1.4826 × median absolute deviation)."""

    median: float
    sigma: float


def spread(values: npt.NDArray[Any]) -> Spread:
    """Robust centre and width of ``values``; not empty."""
    median = float(np.median(values))
    return Spread(median, float(MAD_TO_SIGMA * np.median(np.abs(values - median))))


def normal_level(values: npt.NDArray[Any]) -> float:
    """Median of normal tissue among ``values`` of a brain (ADC, or signal), so refined that infarct and CSF do not pull it.

    Zero where there is nothing.
    """
    if not values.size:
        return 0.0
    median = float(np.median(values))
    for _ in range(4):
        if median <= 0:
            break
        ratio = values / median
        normal = values[(ratio > 0.85) & (ratio < 1.35)]
        if normal.size == 0:
            break
        median = float(np.median(normal))
    return median


def healthier_side(adc: npt.NDArray[Any], side_mm: npt.NDArray[Any], *, apart_mm: float) -> npt.NDArray[np.bool_]:
    """Which of the ``adc`` values may serve as normal: all, or those of the side that is clearly higher.

    Sides differ by 1 % in health. An infarct of half a hemisphere or more would else become part of its own reference.
    ``side_mm`` is the signed distance from the mid-sagittal plane; voxels within ``apart_mm`` belong to neither side.
    """
    left, right = side_mm > apart_mm, side_mm < -apart_mm
    ratio = side_ratio(adc, side_mm, apart_mm=apart_mm)
    if abs(ratio - 1) <= SIDES_DIFFER:
        return np.ones(adc.shape, dtype=bool)
    return left if ratio > 1 else right


def side_ratio(adc: npt.NDArray[Any], side_mm: npt.NDArray[Any], *, apart_mm: float) -> float:
    """Median ADC on the left relative to that on the right; 1 when a side has hardly any tissue."""
    left, right = adc[side_mm > apart_mm], adc[side_mm < -apart_mm]
    if min(left.size, right.size) < 500:
        return 1.0
    return float(np.median(left)) / float(np.median(right))


def polynomial_terms(shape: tuple[int, ...], where: Mask, order: int) -> npt.NDArray[np.float64]:
    """Monomials up to total degree ``order`` of the voxel position scaled to [−1, 1], one row per voxel of ``where``."""
    position = [index / max(1, size - 1) * 2 - 1 for index, size in zip(np.nonzero(where), shape, strict=True)]
    powers = [(i, j, k) for i in range(order + 1) for j in range(order + 1 - i) for k in range(order + 1 - i - j)]
    return np.stack([position[0] ** i * position[1] ** j * position[2] ** k for i, j, k in powers], axis=-1)


def coil_profile(log_signal: Map, brain: Mask, normal: Mask, order: int) -> npt.NDArray[np.float64]:
    """Smooth log signal level over the voxels of ``brain``, fitted robustly to normal tissue alone."""
    terms = polynomial_terms(log_signal.shape, brain, order)
    values = log_signal[brain].astype(np.float64)
    usable = normal[brain]
    fitted = np.zeros_like(values)
    for _ in range(5):
        rows = np.flatnonzero(usable)[::5]
        if rows.size < 20 * terms.shape[1]:
            break
        coefficients = np.linalg.lstsq(terms[rows], values[rows], rcond=None)[0]
        # Rounded, so that the last bits of a threaded linear algebra library cannot reach the result.
        fitted = terms @ np.round(coefficients, 7)
        residual = values - fitted
        sigma = MAD_TO_SIGMA * float(np.median(np.abs(residual[usable])))
        usable = normal[brain] & (np.abs(residual) < 2.5 * sigma)
    return fitted


def log_background(
    log_signal: Map, brain: Mask, normal: Mask, spacing_mm: Spacing, *, order: int, reach_mm: float
) -> Map:
    """Log signal that normal tissue would have at each voxel of the brain; 0 outside.

    A polynomial takes the coil's profile, then a weighted local mean over *normal* voxels what is left. Infarct takes no
    part in either, so a large one does not vanish into its own background.
    """
    profile = np.zeros(log_signal.shape, dtype=np.float32)
    profile[brain] = coil_profile(log_signal, brain, normal, order)
    residual = np.where(normal, log_signal - profile, 0).astype(np.float32)
    limit = 3 * max(spread(residual[normal]).sigma, 1e-3)
    local = smoothed(np.clip(residual, -limit, limit), reach_mm, spacing_mm)
    # The small constant lets the polynomial alone decide where no normal tissue is near.
    profile += local / (smoothed(normal, reach_mm, spacing_mm) + np.float32(0.01))
    profile[brain] += np.median((log_signal - profile)[normal])
    profile[~brain] = 0
    return profile


def local_adc(ratio: Map, normal: Mask, spacing_mm: Spacing, *, reach_mm: float, share: float) -> Map:
    """Factor by which normal ADC differs here from the brain's median; ``share`` damps it (0 none, 1 fully)."""
    weighted = smoothed(np.where(normal, ratio, 0), reach_mm, spacing_mm) + np.float32(0.02)
    factor = weighted / (smoothed(normal, reach_mm, spacing_mm) + np.float32(0.02))
    return np.asarray(factor**share, dtype=np.float32)


def signal_noise(signal: Map, where: Mask) -> float:
    """Relative noise of ``signal`` inside ``where``, from differences between in-plane neighbours.

    Second differences cancel the anatomy's slopes; what is left is an upper bound of the noise.
    """
    inside = where[:, :, :-2] & where[:, :, 1:-1] & where[:, :, 2:]
    if np.count_nonzero(inside) < 100:
        return float("inf")
    log = np.log(np.maximum(signal, 1e-6))
    second = (log[:, :, :-2] - 2 * log[:, :, 1:-1] + log[:, :, 2:])[inside]
    return spread(second).sigma / float(np.sqrt(6))
