"""Where things lie in the phantom's head: compartments as soft fractions in patient space.

Everything is written as smooth functions of the patient position (LPS, mm), so one seed gives the same head on every
grid, whatever its spacing, obliquity or axis order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]

BRAIN_SEMI_AXES_MM = (66.0, 82.0, 60.0)
"""Half width (left to right), half length (front to back) and half height of the brain."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Fractions in [0, 1] of each compartment, all of one (z, y, x) shape.

    Attributes
    ----------
    brain_zyx : numpy.ndarray
        bool; inside the brain's envelope, ventricles and sulci included.
    grey_zyx, white_zyx, csf_zyx, scalp_zyx : numpy.ndarray
        float32 fractions; what is missing to 1 is bone or air.
    depth_mm_zyx : numpy.ndarray
        Approximate depth below the brain's surface, negative outside.
    position_mm : numpy.ndarray
        (3, z, y, x) float32, LPS relative to the brain's centre, in units of the *unscaled* head.
    """

    brain_zyx: npt.NDArray[np.bool_]
    grey_zyx: Field
    white_zyx: Field
    csf_zyx: Field
    scalp_zyx: Field
    depth_mm_zyx: Field
    position_mm: Field


def wave_field(rng: np.random.Generator, position_mm: Field, wavelength_mm: float, waves: int = 16) -> Field:
    """Smooth random field of mean 0 and standard deviation 1: a sum of plane waves near ``wavelength_mm``."""
    directions = rng.normal(size=(waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = wavelength_mm * rng.uniform(0.7, 1.4, size=waves)
    phases = rng.uniform(0, 2 * np.pi, size=waves)
    field = np.zeros(position_mm.shape[1:], dtype=np.float32)
    for direction, length, phase in zip(directions, lengths, phases, strict=True):
        k = (2 * np.pi / length * direction).astype(np.float32)
        argument = k[0] * position_mm[0] + k[1] * position_mm[1] + k[2] * position_mm[2] + np.float32(phase)
        field += np.sin(argument)
    return field * np.float32(np.sqrt(2.0 / waves))


def soft_step(distance_mm: npt.NDArray[np.floating[Any]], width_mm: float) -> Field:
    """1 well inside (positive distance), 0 well outside, linear over ``width_mm``: partial volume of a sharp border."""
    return np.clip(distance_mm / np.float32(width_mm) + np.float32(0.5), 0, 1).astype(np.float32)


def ellipsoid_depth_mm(position_mm: Field, centre_mm: tuple[float, ...], semi_axes_mm: tuple[float, ...]) -> Field:
    """Approximate depth below the surface of an axis-parallel ellipsoid, in mm; negative outside."""
    radius = np.zeros(position_mm.shape[1:], dtype=np.float32)
    for axis in range(3):
        radius += ((position_mm[axis] - np.float32(centre_mm[axis])) / np.float32(semi_axes_mm[axis])) ** 2
    return (1 - np.sqrt(radius)) * np.float32(np.mean(semi_axes_mm))


def build_anatomy(rng: np.random.Generator, position_mm: Field, border_mm: float) -> Anatomy:
    """Compartments at the given positions.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the individual shape of this head.
    position_mm : numpy.ndarray
        (3, z, y, x) patient position relative to the brain's centre, mm of an adult head.
    border_mm : float
        Width of the partial-volume borders, about half a voxel.
    """
    surface = wave_field(rng, position_mm, 55.0)
    depth = ellipsoid_depth_mm(position_mm, (0, 0, 0), BRAIN_SEMI_AXES_MM) + 1.5 * surface
    inside = soft_step(depth, border_mm)
    folds = np.abs(wave_field(rng, position_mm, 30.0))
    # Sulci are the thin sheets where a smooth field crosses zero, down to about 16 mm below the surface.
    sulcus = soft_step(0.16 * (1 - depth / 16) - 0.9 * folds + 0.06, 0.25) * (depth > 0) * (depth < 18)
    fissure = soft_step(1.6 - np.abs(position_mm[0]), border_mm) * soft_step(26 - depth, 4.0) * (position_mm[2] > -20)
    ventricles = np.zeros_like(depth)
    for side in (-1.0, 1.0):
        body = ellipsoid_depth_mm(position_mm, (11 * side, 2, 12), (7, 30, 9))
        horn = ellipsoid_depth_mm(position_mm, (24 * side, 26, 0), (6, 14, 7))
        ventricles = np.maximum(ventricles, soft_step(np.maximum(body, horn), border_mm))
    csf = inside * np.clip(np.maximum(np.maximum(sulcus, fissure), ventricles), 0, 1)
    csf = np.maximum(csf, inside * soft_step(2.0 - depth, border_mm))
    cortex = soft_step(np.minimum(depth, 4.5 + 30 * np.maximum(0, 0.45 - folds)) - depth + 3.5, 2.0)
    deep = np.zeros_like(depth)
    for side in (-1.0, 1.0):
        deep = np.maximum(deep, soft_step(ellipsoid_depth_mm(position_mm, (25 * side, -8, 4), (7, 18, 11)), 2.0))
        deep = np.maximum(deep, soft_step(ellipsoid_depth_mm(position_mm, (11 * side, 16, -4), (8, 13, 9)), 2.0))
    grey_share = np.clip(np.maximum(cortex, deep), 0, 1)
    tissue = inside - csf
    scalp = soft_step(depth + 14, border_mm) * soft_step(-9 - depth, border_mm)
    return Anatomy(
        brain_zyx=inside > 0.5,
        grey_zyx=(tissue * grey_share).astype(np.float32),
        white_zyx=(tissue * (1 - grey_share)).astype(np.float32),
        csf_zyx=csf.astype(np.float32),
        scalp_zyx=scalp.astype(np.float32),
        depth_mm_zyx=depth.astype(np.float32),
        position_mm=position_mm,
    )
