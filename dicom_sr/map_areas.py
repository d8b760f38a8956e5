"""Where heat maps are strongest, for pictures that can show outlines alone.

A radiograph has no place in the patient, so no Parametric Map can be made of what a model looked at in it (PS3.3 A.75 wants a
Frame of Reference); the outline over the image itself is how a viewer gets to show it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.results import Outcome, StudyResult


@dataclass(frozen=True, slots=True)
class MapArea:
    """The stronger half of a heat map on the slice of its largest value.

    Attributes
    ----------
    number : int
        Of the map among the result's, from 1.
    inside : numpy.ndarray
        bool (rows, columns): at or above the middle between the map's smallest and largest value.
    """

    number: int
    label: str
    slice_index: int
    inside: npt.NDArray[np.bool_]


def areas_of(result: StudyResult) -> list[MapArea]:
    """Areas of all maps of a result that found something and outlines no regions; a map that is flat has none."""
    if result.outcome is not Outcome.FOUND or result.segmentation is not None:
        return []
    found = []
    for number, heat_map in enumerate(result.heat_maps, start=1):
        values = heat_map.values_zyx
        low, high = float(values.min()), float(values.max())
        if not low < high:
            continue
        k = int(np.unravel_index(int(values.argmax()), values.shape)[0])
        found.append(MapArea(number, heat_map.label, k, values[k] >= low + (high - low) / 2))
    return found
