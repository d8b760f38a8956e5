"""The same head, bent: what two scans cannot show of how heads differ, and lie in a scanner.

Turned, zoomed and warped smoothly on the network's grid, image and infarct alike, with another curve of grey values on
the diffusion-weighted channel. The same seed gives the same head.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.export.infarct_training import SPACING_MM, Prepared

TURN_DEGREES, TILT_DEGREES = 15.0, 8.0
ZOOM = (0.85, 1.15)
WARP_MM, WARP_WIDTH_MM = 4.0, 30.0
"""Largest displacement, and distance over which it changes."""
CURVE = (0.8, 1.25)
"""Exponent of the diffusion-weighted channel above the lowest value."""


def deformed(head: Prepared, rng: np.random.Generator) -> Prepared:
    """``head`` on the same grid, deformed at random."""
    where = _where(head.truth.shape, rng)
    image = np.stack(
        [ndimage.map_coordinates(each.astype(np.float32), where, order=1, mode="nearest") for each in head.image]
    )
    truth = ndimage.map_coordinates(head.truth.astype(np.float32), where, order=1) > 0.5
    lowest, span = float(image[0].min()), max(float(np.ptp(image[0])), 1e-6)
    image[0] = lowest + span * ((image[0] - lowest) / span) ** rng.uniform(*CURVE)
    return Prepared(image.astype(np.float16), truth)


def _where(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Where each voxel (3, z, y, x) takes its value from."""
    spacing = np.asarray(SPACING_MM, np.float32).reshape(3, 1, 1, 1)
    middle = (np.asarray(shape, np.float32).reshape(3, 1, 1, 1) - 1) / 2
    at_mm = (np.indices(shape, dtype=np.float32) - middle) * spacing
    turned = np.tensordot(_rotation(rng) / rng.uniform(*ZOOM), at_mm, axes=1).astype(np.float32)
    for axis in range(3):
        coarse = [max(3, round(n * mm / WARP_WIDTH_MM)) for n, mm in zip(shape, SPACING_MM, strict=True)]
        factors = [n / c for n, c in zip(shape, coarse, strict=True)]
        bend = ndimage.zoom(rng.uniform(-1, 1, coarse), factors, order=3, grid_mode=True, mode="nearest")
        turned[axis] += (rng.uniform(0, WARP_MM) * bend).astype(np.float32)
    return (turned / spacing + middle).astype(np.float32)


def _rotation(rng: np.random.Generator) -> npt.NDArray[np.float32]:
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
