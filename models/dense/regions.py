"""From a label for every voxel to regions: one a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.measurement import volume_quantity
from models.results import Region
from models.volume import Volume

if TYPE_CHECKING:
    from models.card import Label

Labels = npt.NDArray[np.uint8]


def label_volumes(
    labels: Labels, grid: Volume, known: Sequence[Label], smallest_ml: float
) -> list[tuple[Label, float]]:
    """The labels that are there with their volumes in mL, largest first; parameters as of :func:`labelled_regions`."""
    counts = np.bincount(labels.ravel(), minlength=len(known) + 1)
    found = [(label, float(counts[label.value]) * grid.voxel_ml) for label in known if counts[label.value]]
    found = [each for each in found if each[1] >= smallest_ml]
    return sorted(found, key=lambda each: (-each[1], each[0].value))


def labelled_regions(
    labels: Labels, grid: Volume, known: Sequence[Label], smallest_ml: float
) -> tuple[tuple[Region, ...], Labels]:
    """One region a label, largest first, and the mask in their numbers.

    Parameters
    ----------
    labels : numpy.ndarray
        uint8 (z, y, x) on ``grid``: values of the card's labels, 0 for none.
    known : sequence of Label
        The card's.
    smallest_ml : float
        What is smaller is left out.
    """
    lookup = np.zeros(256, np.uint8)
    regions = []
    for number, (label, volume_ml) in enumerate(label_volumes(labels, grid, known, smallest_ml), start=1):
        lookup[label.value] = number
        planes = np.count_nonzero(labels == label.value, axis=(1, 2))
        regions.append(
            Region(
                number=number,
                label=label.name,
                category=label.category,
                finding=label.finding,
                site=label.site,
                laterality=label.side,
                volume_ml=volume_ml,
                quantities=(volume_quantity(volume_ml),),
                key_slice=int(np.argmax(planes)),
            )
        )
    return tuple(regions), lookup[labels]
