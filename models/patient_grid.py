"""A volume read along the patient's axes, and back: nothing is interpolated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.volume import Volume


@dataclass(frozen=True, slots=True)
class PatientAxes:
    """How a volume's axes lie: those that run nearest to the patient's right, front and head.

    Attributes
    ----------
    order : tuple of int
        Array axis (z, y, x) of each patient axis.
    flipped : tuple of bool
        Whether the array runs the other way along it.
    spacing_mm : tuple of float
        Of each patient axis.
    shape_zyx : tuple of int
        Of the volume.
    """

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    spacing_mm: tuple[float, float, float]
    shape_zyx: tuple[int, int, int]

    @classmethod
    def of(cls, volume: Volume) -> PatientAxes:
        """Axes of a volume; oblique ones are taken for the nearest."""
        directions = volume.affine_lps[:3, :3][:, ::-1]
        spacing = np.linalg.norm(directions, axis=0)
        cosines = directions / np.maximum(spacing, 1e-9)
        patient_of: dict[int, int] = {}
        # The most certain array axis chooses first, so that no two choose the same patient axis.
        for array_axis in np.argsort(-np.abs(cosines).max(axis=0), kind="stable"):
            free = [axis for axis in range(3) if axis not in patient_of.values()]
            patient_of[int(array_axis)] = max(free, key=lambda axis: abs(cosines[axis, array_axis]))
        order = sorted(range(3), key=lambda array_axis: patient_of[array_axis])
        # Patient coordinates grow to the left and to the back; these axes to the right and to the front.
        wanted = (-1, -1, 1)
        flipped = [bool(cosines[axis, source] * wanted[axis] < 0) for axis, source in enumerate(order)]
        along = [float(spacing[source]) for source in order]
        z, y, x = volume.array_zyx.shape
        return cls(
            (order[0], order[1], order[2]),
            (flipped[0], flipped[1], flipped[2]),
            (along[0], along[1], along[2]),
            (z, y, x),
        )

    def read(self, array_zyx: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The array (right, front, head)."""
        turned = np.transpose(array_zyx, self.order)
        flips = tuple(axis for axis in range(3) if self.flipped[axis])
        return np.flip(turned, flips) if flips else turned

    def back(self, array_rfh: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """An array (right, front, head) on the volume's own grid."""
        flips = tuple(axis for axis in range(3) if self.flipped[axis])
        turned = np.flip(array_rfh, flips) if flips else array_rfh
        return np.ascontiguousarray(np.transpose(turned, np.argsort(self.order)))

    def place(self, index_zyx: tuple[float, float, float]) -> tuple[float, float, float]:
        """Where a voxel of the volume's own grid lies in the array (right, front, head)."""
        found = []
        for axis, source in enumerate(self.order):
            value = index_zyx[source]
            found.append(self.shape_zyx[source] - 1 - value if self.flipped[axis] else value)
        return found[0], found[1], found[2]
