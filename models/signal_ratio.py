"""Signal of another series inside the regions, relative to the tissue on the other side of the brain.

The ratio of means is what the literature calls the signal intensity ratio. It is a measurement of the images and no more: without
a validated cut-off nothing follows from it, least of all a time of onset.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.morphology import CUBE, Mask
from models.ratio_terms import FLAIR_RATIO, RATIO, RATIO_UNIT
from models.registration import NotComparable, resampled, rigid_transform
from models.results import Quantity
from models.symmetry import sampled, voxel_positions
from models.volume import Volume
from models.workspace import Workspace

NOT_REGISTERED, NO_REFERENCE, BASELINE = (
    "flair_not_registered",
    "flair_no_reference",
    "flair_ratio_baseline",
)
LIMITATIONS = (NOT_REGISTERED, NO_REFERENCE, BASELINE)
"""Keys of the sentences that go with it: one of them stands in every result with a region and a series to measure on."""
_LARGEST_ADC = 3000.0
"""10⁻⁶ mm²/s, of CSF; above it there is noise."""
_LEAST_VOXELS, _LEAST_SHARE, _LEAST_COVERED = 5, 0.5, 0.9
"""Mirrored voxels of healthy tissue, their share of the region's, and the share of the region that the other series shows."""


def flair_ratio(workspace: Workspace, *, role: str, dwi: str, adc: str) -> None:
    """Measure the ratio in every region and in all together, on the input ``role`` moved into agreement with the grid.

    It is registered to the signal at b = 0 that ``dwi`` and ``adc`` (10⁻⁶ mm²/s) imply: CSF is as dark
    as air on diffusion images.

    A series that is not there, that cannot be brought into agreement, or a region whose mirrored place is infarcted too, costs
    the ratio and nothing else; the result says so.
    """
    if not workspace.candidates:
        return
    volume = workspace.beside.get(role)
    if volume is None:
        workspace.evidence["flair"] = "no series, or more than one, that could be used"
        return
    try:
        values = _on_grid(volume, _unweighted(workspace, dwi, adc))
    except NotComparable as error:
        workspace.limitations.append(NOT_REGISTERED)
        workspace.evidence["flair"] = str(error)
        return
    labels = workspace.array("labels")
    healthy = workspace.mask("tissue") & ~ndimage.binary_dilation(labels > 0, structure=CUBE)
    for number in range(1, len(workspace.candidates) + 1):
        if (ratio := _ratio(workspace, values, labels == number, healthy)) is not None:
            workspace.quantities.setdefault(number, []).append(_quantity(ratio))
    if (whole := _ratio(workspace, values, labels > 0, healthy)) is None:
        workspace.limitations.append(NO_REFERENCE)
        return
    workspace.totals.append(_quantity(whole))
    workspace.limitations.append(BASELINE)


def _unweighted(workspace: Workspace, dwi: str, adc: str) -> Volume:
    exponent = np.minimum(workspace.array(adc), _LARGEST_ADC) * (workspace.value("b_value") * 1e-6)
    return replace(workspace.grid, array_zyx=(workspace.array(dwi) * np.exp(exponent)).astype(np.float32))


def _on_grid(volume: Volume, grid: Volume) -> npt.NDArray[np.float32]:
    """Signal on the grid, NaN where the series shows nothing.

    Raises
    ------
    NotComparable
        It cannot be brought into agreement with the grid's own images.
    """
    if not np.isfinite(volume.array_zyx).all():
        raise NotComparable("the series holds NaN or infinity")
    transform = rigid_transform(grid, volume, same_contrast=False)
    inside = Volume(np.ones(volume.array_zyx.shape, np.float32), volume.affine_lps)
    moved = resampled(volume, grid, transform)
    moved[resampled(inside, grid, transform) < 0.99] = np.nan
    return moved


def _ratio(workspace: Workspace, values: npt.NDArray[np.float32], region: Mask, healthy: Mask) -> float | None:
    """Mean in the region over the mean of the healthy tissue mirrored to it; None where too little of either is there."""
    plane, affine = workspace.midplane, workspace.grid.affine_lps
    own = values[region]
    if plane is None or np.isfinite(own).mean() < _LEAST_COVERED:
        return None
    there = plane.mirrored(voxel_positions(region, affine))
    known = healthy & np.isfinite(values)
    valid = sampled(known.astype(np.float32), there, affine, 0.0) > 0.99
    if np.count_nonzero(valid) < max(_LEAST_VOXELS, _LEAST_SHARE * own.size):
        return None
    other = float(sampled(np.where(known, values, 0), there[valid], affine, 0.0).mean(dtype=np.float64))
    return float(np.nanmean(own, dtype=np.float64)) / other if other > 0 else None


def _quantity(ratio: float) -> Quantity:
    return Quantity(RATIO, round(ratio, 3), RATIO_UNIT, remark=FLAIR_RATIO)
