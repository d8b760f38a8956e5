"""How well a result agrees with the phantom's truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.model import Model
from models.phantom import Phantom
from models.results import StudyResult

REACH_MM = 8.0
"""Marked voxels this far from a lesion still count as its false positives."""


def run(model: Model, phantom: Phantom) -> StudyResult:
    """Result of ``model`` on the phantom."""
    return model.run({"dwi": phantom.dwi, "adc": phantom.adc}, {})


def marked(result: StudyResult, phantom: Phantom) -> npt.NDArray[np.uint8]:
    """Label mask of the result, empty when nothing was found."""
    return result.segmentation.mask_zyx if result.segmentation else np.zeros_like(phantom.truth_zyx)


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Dice coefficient."""
    return float(2 * np.count_nonzero(one & other) / max(1, np.count_nonzero(one) + np.count_nonzero(other)))


def lesion_dice(result: StudyResult, phantom: Phantom, above_ml: float = 1.0) -> list[float]:
    """Dice of each lesion above ``above_ml``, marked voxels belonging to the nearest lesion."""
    spacing = phantom.dwi.spacing_mm_zyx
    mask = marked(result, phantom) > 0
    nearest = ndimage.distance_transform_edt(phantom.truth_zyx == 0, sampling=spacing, return_indices=True)[1]
    owner = phantom.truth_zyx[tuple(nearest)]
    figures = []
    for number in range(1, len(phantom.lesions) + 1):
        lesion = phantom.truth_zyx == number
        if np.count_nonzero(lesion) * phantom.dwi.voxel_ml <= above_ml:
            continue
        near = ndimage.distance_transform_edt(~lesion, sampling=spacing) < REACH_MM
        figures.append(dice(mask & near & (owner == number), lesion))
    return figures


def stray_regions(result: StudyResult, phantom: Phantom) -> int:
    """Number of reported regions that touch no lesion."""
    mask = marked(result, phantom)
    return sum(not (phantom.truth_zyx[mask == number] > 0).any() for number in range(1, int(mask.max()) + 1))
