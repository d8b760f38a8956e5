"""Results with probabilities and maps, and every form their pixels can be written in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.results import CodedTerm, HeatMap, StudyResult
from tests.generators.results import found
from tests.unit.dicom_sr_objects.cases import Case, blocks

FORMS: dict[str, dict[str, object]] = {
    "binary": {"segmentation": "binary"},
    "fractional": {"segmentation": "fractional"},
    "fractional rle": {"segmentation": "fractional", "segmentation_syntax": "rle"},
    "labelmap": {"segmentation": "labelmap"},
    "labelmap rle": {"segmentation": "labelmap", "segmentation_syntax": "rle"},
}
SALIENCY = CodedTerm("130404", "DCM", "Saliency")
ONE = CodedTerm("1", "UCUM", "no units")


def with_pixels(case: Case, seed: int = 1) -> StudyResult:
    """The case's result with a probability for each voxel and a saliency map."""
    assert case.result.segmentation is not None
    mask = case.result.segmentation.mask_zyx
    noise = np.random.default_rng(seed)
    inside, outside = noise.uniform(0.5, 1.0, mask.shape), noise.uniform(0.0, 0.4, mask.shape)
    probability = np.where(mask > 0, inside, outside).astype(np.float32)
    saliency = (noise.normal(size=mask.shape) * 3).astype(np.float32)
    return replace(
        case.result,
        segmentation=replace(case.result.segmentation, probability_zyx=probability),
        heat_maps=(HeatMap("dwi", saliency, SALIENCY, ONE, "Saliency of the infarct"),),
    )


def holed(case: Case) -> Case:
    """The case with three blocks and a ring around an island, on a result with probabilities."""
    mask = blocks(case.source.volume.array_zyx.shape)
    mask[2:4, 1:13, 1:13] = 4
    mask[2:4, 3:11, 3:11] = 0
    mask[3, 6:8, 6:8] = 4
    mask[2, 11:13, 11:13] = 0
    mask[2, 10, 10] = 4  # meets the cut corner in a point, as the island's slice has no such place
    with_mask = replace(case, result=found(mask, case.source.volume.voxel_ml))
    return replace(with_mask, result=with_pixels(with_mask))


def places(mask: npt.NDArray[np.generic], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Patient coordinates of the voxels that are not zero, rounded to 10 µm and sorted."""
    indices = np.argwhere(mask)[:, ::-1]
    return in_order((np.c_[indices, np.ones(len(indices))] @ affine.T)[:, :3])


def values_in_order(values: npt.NDArray[np.generic], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.generic]:
    """Values of the voxels that are not zero, in the order of :func:`places`."""
    indices = np.argwhere(values)[:, ::-1]
    points = np.round((np.c_[indices, np.ones(len(indices))] @ affine.T)[:, :3], 2) + 0.0
    return values[values != 0][np.lexsort(points.T)]


def in_order(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points rounded to 10 µm and sorted."""
    rounded = np.round(points, 2) + 0.0
    return rounded[np.lexsort(rounded.T)]
