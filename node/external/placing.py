"""Masks onto the voxels of an image, by where they say they lie in the patient."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.program_errors import OutputUnusable
from models.volume import Volume

_OFF_AXIS, _OFF_CENTRE = 0.02, 0.1


class Placement:
    """Collects labels on one grid.

    Parameters
    ----------
    grid : Volume
        Whose voxels the labels must lie on.

    Attributes
    ----------
    labels_zyx : numpy.ndarray
        uint8, shape of the grid, 0 for none.
    """

    def __init__(self, grid: Volume) -> None:
        self._to_index = np.linalg.inv(grid.affine_lps)
        self._size = np.array(grid.array_zyx.shape[::-1])
        self.labels_zyx = np.zeros(grid.array_zyx.shape, np.uint8)

    def add(self, mask_zyx: npt.NDArray[Any], affine_lps: npt.NDArray[np.float64], label: int | None = None) -> None:
        """Put labels in their place.

        Parameters
        ----------
        mask_zyx : numpy.ndarray
            Integers 0 to 255: labels, or, with ``label``, yes and no.
        affine_lps : numpy.ndarray
            4×4: (column, row, slice, 1) of the mask → mm, DICOM patient coordinates.

        Raises
        ------
        OutputUnusable
            The mask has other voxels than the grid, marks a place outside of it, or marks one twice differently.
        """
        if not np.isfinite(affine_lps).all():
            raise OutputUnusable("the mask's place holds NaN or infinity")
        there = self._to_index @ affine_lps
        # One slice alone says nothing about the distance to the next.
        axes = there[:3, : 2 if mask_zyx.shape[0] == 1 else 3]
        whole = np.rint(axes)
        if np.abs(axes - whole).max() > _OFF_AXIS or not (np.abs(whole).sum(axis=0) == 1).all():
            raise OutputUnusable("the mask has other voxels than the images: spacing or direction differ")
        zyx = np.argwhere(mask_zyx)
        if not len(zyx):
            return
        points = np.c_[zyx[:, ::-1], np.ones(len(zyx))]
        exact = points @ there[:3].T
        index = np.rint(exact).astype(np.int64)
        if np.abs(exact - index).max() > _OFF_CENTRE:
            raise OutputUnusable("the mask lies between the voxels of the images")
        if (index < 0).any() or (index >= self._size).any():
            raise OutputUnusable("the mask marks a place outside of the images")
        x, y, z = index.T
        values = np.full(len(zyx), label, np.uint8) if label is not None else mask_zyx[tuple(zyx.T)].astype(np.uint8)
        before = self.labels_zyx[z, y, x]
        if ((before != 0) & (before != values)).any():
            raise OutputUnusable("two labels of the mask overlap; a voxel can have one")
        self.labels_zyx[z, y, x] = values
