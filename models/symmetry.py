"""The brain's mid-sagittal plane, and what lies on its other side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from models.morphology import Mask

Affine = npt.NDArray[np.float64]
_POINTS = 6000
"""Voxels compared with their mirror images in each step of the search."""
_OFFSET_MM, _TILT = 10.0, 0.1
"""Step widths of the search: mm of offset, and tangent of a tilt."""
_WIDEST_OFFSET_MM, _WIDEST_TILT = 15.0, 0.27
"""Limits of the search: mm from the brain's centre, and tangent of a tilt (15 degrees)."""
_BRIGHTEST = 0.2
"""Relative signal (natural logarithm) above which brightness is ignored: an infarct must not turn the plane."""


@dataclass(frozen=True, slots=True)
class Midplane:
    """A plane ``normal · position = offset_mm`` in LPS; the normal points to the patient's left."""

    normal: npt.NDArray[np.float64]
    offset_mm: float

    def side_mm(self, positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Signed distance of (n, 3) positions, positive on the patient's left."""
        return np.asarray(positions @ self.normal - self.offset_mm)

    def mirrored(self, positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(n, 3) positions reflected in the plane."""
        return np.asarray(positions - 2 * self.side_mm(positions)[:, None] * self.normal)


def voxel_positions(mask: Mask, affine: Affine, step: int = 1) -> npt.NDArray[np.float64]:
    """(n, 3) LPS positions of the voxels of ``mask``, every ``step``-th."""
    return np.asarray(np.argwhere(mask)[::step, ::-1] @ affine[:3, :3].T + affine[:3, 3])


def sampled(
    values: npt.NDArray[Any], positions: npt.NDArray[np.float64], affine: Affine, outside: float
) -> npt.NDArray[np.float32]:
    """``values`` at LPS positions, linearly interpolated; ``outside`` beyond the grid."""
    inverse = np.linalg.inv(affine)
    index = (positions @ inverse[:3, :3].T + inverse[:3, 3])[:, ::-1].T
    return np.asarray(ndimage.map_coordinates(values, index, order=1, cval=outside), dtype=np.float32)


def find_midplane(brain: Mask, relative_signal: npt.NDArray[Any], affine: Affine) -> Midplane:
    """Plane in which the brain's envelope and signal are most alike on both sides.

    Searched within 15 degrees of the patient's sagittal plane and 15 mm of the brain's centre, as heads lie in scanners:
    left stays left, whatever a large infarct makes of the symmetry.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    sigma = 4.0 / spacing
    envelope = ndimage.gaussian_filter(brain.astype(np.float32), sigma)
    signal = ndimage.gaussian_filter(
        np.where(brain, np.clip(relative_signal, -0.6, _BRIGHTEST), 0).astype(np.float32), sigma
    )
    points = voxel_positions(brain, affine, max(1, int(np.count_nonzero(brain)) // _POINTS))
    centre = points.mean(axis=0)
    here = sampled(envelope, points, affine, 0.0), sampled(signal, points, affine, 0.0)

    def plane(search: npt.NDArray[np.float64]) -> Midplane:
        normal = np.array([1.0, search[1] * _TILT, search[2] * _TILT])
        normal /= np.linalg.norm(normal)
        return Midplane(normal, float(centre @ normal + search[0] * _OFFSET_MM))

    def unlikeness(search: npt.NDArray[np.float64]) -> float:
        there = plane(search).mirrored(points)
        shape = np.mean((sampled(envelope, there, affine, 0.0) - here[0]) ** 2)
        return float(shape + 0.5 * np.mean(np.abs(sampled(signal, there, affine, 0.0) - here[1])))

    grid = [np.array([o, y, z]) for o in (-0.5, 0.0, 0.5) for y in (-1.0, 0.0, 1.0) for z in (-1.0, 0.0, 1.0)]
    start = min(grid, key=unlikeness)
    options = {"maxiter": 80, "xatol": 0.02, "fatol": 1e-6}
    widest = (_WIDEST_OFFSET_MM / _OFFSET_MM, _WIDEST_TILT / _TILT, _WIDEST_TILT / _TILT)
    bounds = [(-limit, limit) for limit in widest]
    best = optimize.minimize(unlikeness, start, method="Nelder-Mead", bounds=bounds, options=options)
    return plane(np.round(best.x, 4))


def mirror_map(
    values: npt.NDArray[np.float32], brain: Mask, plane: Midplane, affine: Affine, *, reach: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    """Largest of ``values`` within ``reach`` voxels (z, y, x) of the mirrored place; −1 outside the brain."""
    widest = ndimage.maximum_filter(values, size=[2 * n + 1 for n in reach])
    result = np.full(values.shape, -1, dtype=np.float32)
    result[brain] = sampled(widest, plane.mirrored(voxel_positions(brain, affine)), affine, -1.0)
    return result
