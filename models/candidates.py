"""Connected findings under consideration: cut out, refined, described."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.morphology import CUBE, Mask, filled_in_plane

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A connected finding.

    Attributes
    ----------
    box : tuple of slice
        Part of the grid it lies in, with some margin.
    mask : numpy.ndarray
        bool, shape of the box.
    seeds : int
        How many of its voxels met the strict conditions.
    label : int
        Which of the card's labels it is.
    """

    box: Box
    mask: Mask
    seeds: int
    label: int = 1

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.mask))

    def values(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``array`` (whole grid) at its voxels."""
        return np.asarray(array[self.box][self.mask])

    def ring(self, where: Mask) -> Mask:
        """Voxels of ``where`` (whole grid) just outside, one voxel of partial volume left out; shape of the box."""
        inner = ndimage.binary_dilation(self.mask)
        return np.asarray(ndimage.binary_dilation(self.mask, iterations=2) & ~inner & where[self.box])


def grown_from_seeds(seed: Mask, grow: Mask, margin: int = 4) -> Iterator[Candidate]:
    """26-connected parts of ``seed | grow`` that hold a seed (hysteresis), in scan order."""
    labels, _ = ndimage.label(seed | grow, structure=CUBE)
    boxes = ndimage.find_objects(labels)
    for number in np.unique(labels[seed]):
        box = _widened(boxes[int(number) - 1], margin)
        mask = labels[box] == number
        yield Candidate(box, mask, int(np.count_nonzero(mask & seed[box])))


def refined(
    candidate: Candidate, seed: Mask, evidence: npt.NDArray[Any], brain: Mask, *, fraction: float, in_plane: bool
) -> Iterator[Candidate]:
    """Cut a generously grown candidate back to where the evidence is ``fraction`` of what it is at its seeds.

    Half way between lesion and normal is where a blurred edge really lies. Gaps of one voxel are closed (CSF in a
    sulcus), holes filled; parts without a seed are dropped.

    Parameters
    ----------
    in_plane : bool
        Close within slices only, for slices much thicker than pixels.
    """
    box = candidate.box
    seeds = candidate.mask & seed[box]
    level = fraction * float(np.median(evidence[box][seeds]))
    mask = (candidate.mask & (evidence[box] >= level)) | seeds
    element = ndimage.generate_binary_structure(3, 1)
    mask = (mask | ndimage.binary_closing(mask, element[1:2] if in_plane else element)) & brain[box]
    labels, _ = ndimage.label(filled_in_plane(mask), structure=CUBE)
    for number in np.unique(labels[seeds]):
        if number:
            part = labels == number
            yield Candidate(box, part, int(np.count_nonzero(part & seeds)))


def _widened(box: Box, margin: int) -> Box:
    z, y, x = (slice(max(0, side.start - margin), side.stop + margin) for side in box)
    return z, y, x
