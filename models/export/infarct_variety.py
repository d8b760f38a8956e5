"""The same healthy head, bent, and on another grid: what two scans cannot show of how heads differ, and lie in a scanner.

Turned, zoomed and warped smoothly, then sampled with other voxels, before anything is implanted. Signals are interpolated,
not the ADC: half of CSF and half of nothing is no infarct. The same seed gives the same head.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.export.infarct_implants import Head

TURN_DEGREES, TILT_DEGREES = 15.0, 8.0
ZOOM = (0.88, 1.14)
WARP_MM, WARP_WIDTH_MM = 4.0, 30.0
"""Largest displacement, and distance over which it changes."""
OTHER_GRID_SHARE = 0.6
IN_PLANE_MM, SLICES_MM = (1.8, 3.2), (2.0, 6.0)
_LARGEST_ADC = 4000.0

Array = npt.NDArray[np.float32]


def bent(head: Head, rng: np.random.Generator) -> Head:
    """Healthy ``head``, deformed at random; mostly on another grid over the same field of view."""
    spacing = np.array(head.dwi.spacing_mm_zyx)
    wanted = spacing
    if rng.random() < OTHER_GRID_SHARE:
        in_plane = rng.uniform(*IN_PLANE_MM)
        wanted = np.array([max(in_plane, rng.uniform(*SLICES_MM)), in_plane, in_plane])
    extent = np.array(head.dwi.array_zyx.shape) * spacing
    shape = tuple(int(n) for n in np.maximum(8, np.round(extent / wanted)))
    wanted = extent / shape
    where = _where(shape, wanted, spacing, head.dwi.array_zyx.shape, rng)
    b = np.float32(1e-6 * head.dwi.facts["b_value"])
    known = head.adc.array_zyx > 0
    start = head.dwi.array_zyx * np.exp(b * np.clip(head.adc.array_zyx, 0, _LARGEST_ADC))
    dwi, s0 = (np.maximum(ndimage.map_coordinates(each, where, order=1), 1e-3) for each in (head.dwi.array_zyx, start))
    there = ndimage.map_coordinates(known.astype(np.float32), where, order=1) > 0.5
    adc = np.where(there, np.clip(np.log(s0 / dwi) / b, 1, _LARGEST_ADC), 0).astype(np.float32)
    affine = head.dwi.affine_lps.copy()
    affine[:3, :3] *= (wanted / spacing)[::-1]
    affine[:3, 3] += head.dwi.affine_lps[:3, :3] @ ((wanted / spacing)[::-1] - 1) / 2
    brain = ndimage.map_coordinates(head.brain_zyx.astype(np.float32), where, order=1) > 0.5
    return Head(
        head.scanner,
        replace(head.dwi, array_zyx=dwi.astype(np.float32), affine_lps=affine),
        replace(head.adc, array_zyx=adc, affine_lps=affine),
        brain,
        np.zeros_like(brain),
    )


def _where(
    shape: tuple[int, ...],
    wanted: npt.NDArray[np.float64],
    spacing: npt.NDArray[np.float64],
    given: tuple[int, ...],
    rng: np.random.Generator,
) -> Array:
    """Where in the given array each voxel (3, z, y, x) of the new one takes its value from."""
    steps, own = (np.asarray(each, np.float32).reshape(3, 1, 1, 1) for each in (wanted, spacing))
    middle = (np.asarray(shape, np.float32).reshape(3, 1, 1, 1) - 1) / 2
    at_mm = (np.indices(shape, dtype=np.float32) - middle) * steps
    zoom = rng.uniform(*ZOOM, 3).reshape(3, 1).astype(np.float32)
    turned = np.tensordot(_rotation(rng) / zoom, at_mm, axes=1).astype(np.float32)
    for axis in range(3):
        coarse = [max(3, round(n * mm / WARP_WIDTH_MM)) for n, mm in zip(shape, wanted, strict=True)]
        factors = [n / c for n, c in zip(shape, coarse, strict=True)]
        bend = ndimage.zoom(rng.uniform(-1, 1, coarse), factors, order=3, grid_mode=True, mode="nearest")
        turned[axis] += (rng.uniform(0, WARP_MM) * bend).astype(np.float32)
    return (turned / own + (np.asarray(given, np.float32).reshape(3, 1, 1, 1) - 1) / 2).astype(np.float32)


def _rotation(rng: np.random.Generator) -> Array:
    """Turned about z, then tilted about x and y; axes z, y, x."""
    made = np.eye(3)
    for axis, limit in ((0, TURN_DEGREES), (1, TILT_DEGREES), (2, TILT_DEGREES)):
        angle = np.deg2rad(rng.uniform(-limit, limit))
        one, other = (each for each in range(3) if each != axis)
        step = np.eye(3)
        step[one, one] = step[other, other] = np.cos(angle)
        step[one, other], step[other, one] = -np.sin(angle), np.sin(angle)
        made = made @ step
    return made.astype(np.float32)
