"""Shapes in millimetres: erosion, dilation, closing and smoothing that respect anisotropic voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]
CUBE = np.ones((3, 3, 3), dtype=bool)
"""26-connectivity."""


def depth_mm(mask: Mask, spacing_mm: Spacing) -> npt.NDArray[np.float32]:
    """Depth of each voxel's centre below the surface of ``mask``; the image border counts as outside."""
    padded = np.pad(mask, 1)
    distance = ndimage.distance_transform_edt(padded, sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    return np.asarray(distance - 0.5 * min(spacing_mm), dtype=np.float32)


def dilated(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """``mask`` with everything within ``radius_mm`` of it."""
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing_mm) <= radius_mm)


def closed(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Morphological closing: gaps narrower than twice ``radius_mm`` are filled, also at the image border."""
    pad = [int(np.ceil(radius_mm / step)) + 1 for step in spacing_mm]
    padded = np.pad(mask, [(n, n) for n in pad])
    grown = dilated(padded, radius_mm, spacing_mm)
    shrunk = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > radius_mm
    return np.asarray(shrunk[tuple(slice(n, -n) for n in pad)] | mask)


def largest_component(mask: Mask) -> Mask:
    """The largest 6-connected part; empty stays empty."""
    labels, found = ndimage.label(mask)
    if found == 0:
        return mask
    return np.asarray(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))


def bounding_box(mask: Mask, margin: int) -> tuple[slice, slice, slice]:
    """Smallest box around ``mask``, widened by ``margin`` voxels within the grid; the whole grid when it is empty."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    box = found[0] if found else tuple(slice(0, n) for n in mask.shape)
    z, y, x = (
        slice(max(0, side.start - margin), min(n, side.stop + margin)) for side, n in zip(box, mask.shape, strict=True)
    )
    return z, y, x


def filled_in_plane(mask: Mask) -> Mask:
    """``mask`` with the holes of each slice filled."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])


def smoothed(values: npt.NDArray[Any], sigma_mm: float, spacing_mm: Spacing) -> npt.NDArray[np.float32]:
    """Gaussian smoothing with zero outside the image."""
    sigma = [sigma_mm / step for step in spacing_mm]
    return np.asarray(
        ndimage.gaussian_filter(values.astype(np.float32), sigma, truncate=2.5, mode="constant"), dtype=np.float32
    )


def gaussian_kernel(sigma_voxels: float) -> npt.NDArray[np.float32]:
    """Normalised one-dimensional Gaussian of odd length, cut at three standard deviations."""
    radius = max(1, int(3.0 * sigma_voxels + 0.5))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma_voxels, 1e-3)) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def otsu_threshold(values: npt.NDArray[Any], bins: int = 256) -> float:
    """Threshold that best separates ``values`` into two classes (Otsu 1979)."""
    counts, edges = np.histogram(values, bins)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    mean_below = sums / np.maximum(below, 1)
    mean_above = (sums[-1] - sums) / np.maximum(above, 1)
    return float(centres[int(np.argmax(below * above.astype(float) * (mean_below - mean_above) ** 2))])
