"""Letters for the sides of a slice, and words for where it lies (PS3.3 C.7.6.1.1.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
"""Towards + and - along each axis of the patient coordinate system."""
_NOTICEABLE = 0.26  # sine of 15 degrees: less of another direction is not worth a letter


@dataclass(frozen=True, slots=True)
class Sides:
    """Directions of the patient at the four edges of a slice, e.g. ``R`` or ``AF``."""

    left: str
    right: str
    top: str
    bottom: str


def letters(direction: npt.NDArray[np.float64]) -> str:
    """Letters of a direction in patient coordinates, the strongest first."""
    unit = direction / max(float(np.linalg.norm(direction)), 1e-12)
    order = sorted(range(3), key=lambda axis: (-abs(float(unit[axis])), axis))
    return "".join(
        _LETTERS[axis][0 if unit[axis] > 0 else 1]
        for n, axis in enumerate(order)
        if n == 0 or abs(float(unit[axis])) >= _NOTICEABLE
    )


def sides(affine_lps: npt.NDArray[np.float64]) -> Sides:
    """What lies at the edges of a slice drawn with the first column left and the first row on top."""
    column, row = affine_lps[:3, 0], affine_lps[:3, 1]
    return Sides(left=letters(-column), right=letters(column), top=letters(-row), bottom=letters(row))


def position(affine_lps: npt.NDArray[np.float64], shape_yx: tuple[int, int], slice_index: int) -> str:
    """Where the middle of a slice lies along the axis the stack runs most along, e.g. ``H 34.5 mm``."""
    normal = np.cross(affine_lps[:3, 0], affine_lps[:3, 1])
    axis = int(np.abs(normal).argmax())
    middle = affine_lps @ np.array([(shape_yx[1] - 1) / 2, (shape_yx[0] - 1) / 2, slice_index, 1.0])
    value = float(middle[axis])
    return f"{_LETTERS[axis][0 if value >= 0 else 1]} {abs(value):.1f} mm"
