"""From numbered voxels to measured regions: volume, means, side of the patient, key slice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.card import Label
from models.results import CodedTerm, Laterality, Quantity, Region
from models.workspace import Workspace

VOLUME = CodedTerm("118565006", "SCT", "Volume")
MILLILITRE = CodedTerm("mL", "UCUM", "mL")
SUM_OF_VOXELS = CodedTerm("126030", "DCM", "Sum of segmented voxel method for volume")
MEAN = CodedTerm("373098007", "SCT", "Mean")
MIDLINE_MM = 3.0
"""Within this distance of the mid-sagittal plane a voxel belongs to neither side."""
ONE_SIDED = 0.8
"""Share of the voxels off the midline that must lie on one side."""


def volume_quantity(volume_ml: float) -> Quantity:
    """A volume in mL by the sum of voxels."""
    return Quantity(VOLUME, volume_ml, MILLILITRE, SUM_OF_VOXELS)


def laterality(side_mm: npt.NDArray[np.float32] | None) -> Laterality:
    """Side of the patient for voxels at these signed distances from the mid-sagittal plane (positive left, mm).

    None, when no plane is known, gives UNKNOWN.
    """
    if side_mm is None:
        return Laterality.UNKNOWN
    left, right = np.count_nonzero(side_mm > MIDLINE_MM), np.count_nonzero(side_mm < -MIDLINE_MM)
    if left + right < 0.5 * side_mm.size:
        return Laterality.MIDLINE
    if left >= ONE_SIDED * (left + right):
        return Laterality.LEFT
    if right >= ONE_SIDED * (left + right):
        return Laterality.RIGHT
    return Laterality.BILATERAL


def measured_regions(workspace: Workspace, labels: tuple[Label, ...]) -> tuple[Region, ...]:
    """Regions of the array ``labels``, in the order of their numbers.

    Parameters
    ----------
    workspace : Workspace
        After postprocessing; ``candidates[n - 1]`` belongs to number ``n``.
    labels : tuple of Label
        The card's labels.
    """
    mask_zyx = workspace.array("labels")
    side = workspace.arrays.get("side_mm")
    regions = []
    for number, candidate in enumerate(workspace.candidates, start=1):
        label = labels[candidate.label - 1]
        where = mask_zyx == number
        volume_ml = float(np.count_nonzero(where)) * workspace.grid.voxel_ml
        regions.append(
            Region(
                number=number,
                label=f"{label.name} {number}",
                category=label.category,
                finding=label.finding,
                site=label.site,
                laterality=laterality(None if side is None else side[where]),
                volume_ml=volume_ml,
                quantities=(
                    volume_quantity(volume_ml),
                    *_means(workspace, where),
                    *workspace.quantities.get(number, ()),
                ),
                key_slice=int(np.argmax(np.count_nonzero(where, axis=(1, 2)))),
            )
        )
    return tuple(regions)


def _means(workspace: Workspace, where: npt.NDArray[np.bool_]) -> list[Quantity]:
    quantities = []
    for measure in workspace.means:
        values = workspace.array(measure.array)[where]
        values = values[values > 0]
        if values.size:
            mean = round(float(values.mean(dtype=np.float64)), 1)
            quantities.append(Quantity(measure.name, mean, measure.unit, MEAN))
    return quantities
