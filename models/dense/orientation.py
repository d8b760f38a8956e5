"""Turning a volume so that its axes point where a network expects them, and turning its answer back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Axis of DICOM's patient coordinates (LPS) and the sign along it."""


def axes_of(letters: str) -> tuple[tuple[int, int], ...]:
    """Patient axis and sign that x, y, z of an image in orientation ``letters`` point at.

    Raises
    ------
    ValueError
        Not three letters out of L or R, P or A, S or I, each axis once.
    """
    if len(letters) != 3 or not set(letters) <= set(_LETTERS):
        raise ValueError("orientation: three letters out of L or R, P or A, S or I")
    axes = tuple(_LETTERS[letter] for letter in letters)
    if len({axis for axis, _ in axes}) != 3:
        raise ValueError("orientation: each axis of the patient once")
    return axes


@dataclass(frozen=True, slots=True)
class Turning:
    """Permutation of the axes of a (z, y, x) array, then flips.

    Attributes
    ----------
    axes : tuple of int
        Source axis of each axis of the turned array.
    flipped : tuple of int
        Axes of the turned array that run backwards.
    """

    axes: tuple[int, int, int]
    flipped: tuple[int, ...]

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The array, turned; a view."""
        return np.flip(array.transpose(self.axes), self.flipped)

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What :meth:`apply` was given; a view."""
        return np.flip(array, self.flipped).transpose(np.argsort(self.axes))

    def spacing(self, spacing: tuple[float, float, float]) -> tuple[float, ...]:
        """Spacing of the turned array."""
        return tuple(spacing[axis] for axis in self.axes)


def turning(affine_lps: npt.NDArray[np.float64], letters: str, order: tuple[int, int, int] = (0, 1, 2)) -> Turning:
    """How a volume becomes one in orientation ``letters``; oblique axes go to the patient axis they are nearest to.

    Parameters
    ----------
    affine_lps : numpy.ndarray
        (4, 4), of (column, row, slice).
    order : tuple of int
        Then, axes out of (z, y, x).
    """
    directions = affine_lps[:3, :3] / np.linalg.norm(affine_lps[:3, :3], axis=0)
    wanted = axes_of(letters)
    best = max(permutations(range(3)), key=lambda p: sum(abs(directions[wanted[n][0], p[n]]) for n in range(3)))
    # x, y, z of the affine's columns are the last, middle and first axis of the array; so are those of the result.
    axes = tuple(2 - best[2 - n] for n in range(3))
    backwards = tuple(directions[wanted[2 - n][0], best[2 - n]] * wanted[2 - n][1] < 0 for n in range(3))
    turned = (axes[order[0]], axes[order[1]], axes[order[2]])
    return Turning(turned, tuple(n for n in range(3) if backwards[order[n]]))
