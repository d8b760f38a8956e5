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
    counts = np.bincount(labels.ravel(), minlength=len(known) + 1)
    found = [label for label in known if counts[label.value]]
    found = [label for label in found if counts[label.value] * grid.voxel_ml >= smallest_ml]
    found.sort(key=lambda label: (-counts[label.value], label.value))
    lookup = np.zeros(256, np.uint8)
    regions = []
    for number, label in enumerate(found, start=1):
        lookup[label.value] = number
        volume_ml = float(counts[label.value]) * grid.voxel_ml
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
