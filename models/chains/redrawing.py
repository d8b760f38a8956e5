"""What was found, drawn again by a promptable model: boxes, the guard against leakage, and what is cleaned up after it.

The model may redraw an edge, never invent: its mask is kept near what was found, and where the two disagree about the thing
itself, what was found stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from models.morphology import CUBE, Mask, filled_in_plane
from models.prompts import BoxPrompt, parts_of
from models.results import LabelMask
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

Plane = npt.NDArray[np.bool_]


class RedrawingOptions(BaseModel):
    """How far a promptable model is trusted.

    Attributes
    ----------
    smallest_voxels : int
        Parts with fewer voxels on a slice stay as found: the refiner was not trained on anything so small.
    largest_overlap : float
        Intersection over union from which two boxes of a slice become one.
    reach_voxels : int
        How far on its slice a new outline may go beyond what was found.
    smallest_share, largest_share : float
        Area of the new outline over the area found, outside of which what was found stands.
    lowest_agreement : float
        Dice of the two, below which what was found stands.
    threshold : float
        Of the refiner's probability.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    smallest_voxels: int = Field(default=25, ge=1)
    largest_overlap: float = Field(default=0.5, gt=0, le=1)
    reach_voxels: int = Field(default=2, ge=0, le=20)
    smallest_share: float = Field(default=0.4, gt=0, le=1)
    largest_share: float = Field(default=3.0, ge=1)
    lowest_agreement: float = Field(default=0.3, ge=0, le=1)
    threshold: float = Field(default=0.5, gt=0, lt=1)


@dataclass(frozen=True, slots=True)
class Boxed:
    """A box and what it holds: label mask of one slice, one value where it is of one thing."""

    box: BoxPrompt
    labels_yx: LabelMask

    @property
    def found(self) -> Plane:
        """Voxels of all it holds."""
        return np.asarray(self.labels_yx > 0)


def redrawn(
    refiner: Model, found: LabelMask, seeds: Mask, volume: Volume, options: RedrawingOptions
) -> tuple[LabelMask, dict[str, int]]:
    """The mask with every part drawn again that could be.

    Parameters
    ----------
    found : numpy.ndarray
        Numbered regions (z, y, x).
    seeds : numpy.ndarray
        bool, same shape: where what was found is beyond doubt. Each piece of the new mask holds some.

    Returns
    -------
    mask : numpy.ndarray
        As ``found``.
    counts : dict
        How many parts were ``redrawn``, ``too_small`` to be, or ``disagreed`` on and left as they were; how many boxes were
        ``merged`` into others.
    """
    drawn = np.zeros_like(found)
    large: list[Boxed] = []
    counts = {"redrawn": 0, "too_small": 0, "disagreed": 0, "merged": 0}
    for box, part in parts_of(found):
        if np.count_nonzero(part) < options.smallest_voxels:
            counts["too_small"] += 1
            drawn[box.slice_index][part] = box.target
        else:
            large.append(Boxed(box, np.where(part, found[box.slice_index], 0)))
    boxes = merged(large, options.largest_overlap)
    counts["merged"] = len(large) - len(boxes)
    if boxes:
        planes = refiner.planes(volume, [each.box for each in boxes])
        for each, (_, plane) in zip(boxes, planes, strict=True):
            outline = guarded(each.found, plane > options.threshold, options)
            counts["redrawn" if outline is not None else "disagreed"] += 1
            new = each.labels_yx if outline is None else np.where(outline, _nearest(each.labels_yx), 0)
            # What another lesion has already stays with it.
            free = (new > 0) & (drawn[each.box.slice_index] == 0)
            drawn[each.box.slice_index][free] = new[free]
    return cleaned(drawn, found, seeds), counts


def merged(boxes: Sequence[Boxed], largest_overlap: float) -> list[Boxed]:
    """Boxes of one slice whose intersection over union is above ``largest_overlap`` made one, until none are left."""
    kept: list[Boxed] = []
    for new in boxes:
        while (other := _overlapping(kept, new, largest_overlap)) is not None:
            kept.remove(other)
            new = Boxed(_around(other.box, new.box), np.maximum(other.labels_yx, new.labels_yx))
        kept.append(new)
    return kept


def guarded(before: Plane, after: Plane, options: RedrawingOptions) -> Plane | None:
    """``after`` near ``before``, holes filled; None where the two do not speak of the same thing."""
    reach = options.reach_voxels
    near = ndimage.binary_dilation(before, structure=CUBE[1], iterations=reach) if reach else before
    kept = ndimage.binary_fill_holes(after & near)
    known, area = int(np.count_nonzero(before)), int(np.count_nonzero(kept))
    if not options.smallest_share * known <= int(np.count_nonzero(after)) <= options.largest_share * known:
        return None
    agreement = 2 * int(np.count_nonzero(kept & before)) / (area + known)
    return np.asarray(kept) if agreement >= options.lowest_agreement else None


def cleaned(drawn: LabelMask, found: LabelMask, seeds: Mask) -> LabelMask:
    """The mask with holes filled in the plane, and without pieces that hold no seed of their region.

    A region of which no piece is left is as it was found.
    """
    made = np.zeros_like(drawn)
    for number in np.unique(found[found > 0]):
        filled = filled_in_plane(drawn == number) & ((drawn == 0) | (drawn == number))
        pieces, _ = ndimage.label(filled, structure=CUBE)
        good = np.unique(pieces[seeds & (found == number) & filled])
        kept = np.isin(pieces, good[good > 0])
        made[(kept if kept.any() else found == number) & (made == 0)] = number
    return made


def _nearest(labels_yx: LabelMask) -> LabelMask:
    """For every voxel of a slice the number of the nearest region."""
    places = ndimage.distance_transform_edt(labels_yx == 0, return_distances=False, return_indices=True)
    return np.asarray(labels_yx[tuple(places)])


def _overlapping(kept: Iterable[Boxed], new: Boxed, largest: float) -> Boxed | None:
    on_slice = (each for each in kept if each.box.slice_index == new.box.slice_index)
    return next((each for each in on_slice if _overlap(each.box, new.box) > largest), None)


def _overlap(one: BoxPrompt, other: BoxPrompt) -> float:
    """Intersection over union, in voxels: the last row and column are inside."""
    high = min(one.bottom, other.bottom) - max(one.top, other.top) + 1
    wide = min(one.right, other.right) - max(one.left, other.left) + 1
    shared = max(high, 0.0) * max(wide, 0.0)
    return shared / (_area(one) + _area(other) - shared)


def _area(box: BoxPrompt) -> float:
    return (box.bottom - box.top + 1) * (box.right - box.left + 1)


def _around(one: BoxPrompt, other: BoxPrompt) -> BoxPrompt:
    return replace(
        one,
        top=min(one.top, other.top),
        left=min(one.left, other.left),
        bottom=max(one.bottom, other.bottom),
        right=max(one.right, other.right),
    )
