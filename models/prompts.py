"""Where to look: what a promptable model is given beside the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class BoxPrompt:
    """A box on one slice.

    Attributes
    ----------
    target : int
        Number of the thing it points at, from 1; boxes of one target on several slices make one region.
    slice_index : int
        Along the slice axis, from 0.
    top, left, bottom, right : float
        First and last row and column inside, counted from 0 at the centre of the first voxel.
    follow : bool
        Look for the same thing on the neighbouring slices, until it ends.
    """

    target: int
    slice_index: int
    top: float
    left: float
    bottom: float
    right: float
    follow: bool = False

    def __post_init__(self) -> None:
        if self.target < 1 or self.slice_index < 0:
            raise ValueError("a box belongs to a target from 1 and a slice from 0")
        if self.bottom < self.top or self.right < self.left:
            raise ValueError("a box ends where it begins, or later")

    def grown(self, voxels: float | tuple[float, float], rows: int, columns: int) -> BoxPrompt:
        """The box with a margin on every side, or one above and below and another at the sides, kept inside the image."""
        down, across = voxels if isinstance(voxels, tuple) else (voxels, voxels)
        return replace(
            self,
            top=max(self.top - down, 0.0),
            left=max(self.left - across, 0.0),
            bottom=min(self.bottom + down, rows - 1.0),
            right=min(self.right + across, columns - 1.0),
        )


def box_of(mask_yx: npt.NDArray[np.bool_], target: int, slice_index: int) -> BoxPrompt | None:
    """Bounding box of a mask on one slice; None where it is empty."""
    rows, columns = np.flatnonzero(mask_yx.any(1)), np.flatnonzero(mask_yx.any(0))
    if not rows.size:
        return None
    return BoxPrompt(target, slice_index, float(rows[0]), float(columns[0]), float(rows[-1]), float(columns[-1]))


def boxes_of(labels_zyx: npt.NDArray[np.integer]) -> tuple[BoxPrompt, ...]:
    """A box for every label on every slice where it is, apart for parts that do not touch in the plane."""
    return tuple(box for box, _ in parts_of(labels_zyx))


def parts_of(labels_zyx: npt.NDArray[np.integer]) -> Iterator[tuple[BoxPrompt, npt.NDArray[np.bool_]]]:
    """Every part of every label that hangs together on its slice, with its bounding box; slice by slice."""
    # Not for everybody: whoever only carries prompts, as a scheduler does, would wait for scipy.
    from scipy import ndimage

    from models.morphology import CUBE

    for slice_index, plane in enumerate(labels_zyx):
        for target in np.unique(plane[plane > 0]):
            numbered, count = ndimage.label(plane == target, structure=CUBE[1])
            for number in range(1, count + 1):
                part = numbered == number
                box = box_of(part, int(target), slice_index)
                if box is not None:
                    yield box, part
