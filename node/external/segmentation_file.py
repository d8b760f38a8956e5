"""Label masks in somebody else's DICOM SEG: only its voxels and where they lie are taken.

Its codes, UIDs, names and references are not: the node writes a SEG of its own from what is read here.
"""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset

from models.program_errors import OutputUnusable
from models.volume import Volume
from node.external.placing import Placement

SEGMENTATION_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
_PIXELS_FOR_EACH_VOXEL = 64
"""Frames may be as many as this many labels that each cover the whole image."""
_MAXIMUM_PIXELS = 1 << 32


def read_segmentation(content: bytes, grid: Volume, frames_of_reference: Collection[str]) -> npt.NDArray[np.uint8]:
    """Labels (uint8, shape of ``grid``) of a SEG; segment numbers are labels.

    Parameters
    ----------
    content : bytes
        Part 10 file.
    frames_of_reference : collection of str
        UIDs of the images that were handed over.

    Raises
    ------
    OutputUnusable
    """
    try:
        dataset = dcmread(BytesIO(content))
        return _labels(dataset, grid, frames_of_reference)
    except OutputUnusable:
        raise
    except Exception as error:  # whatever a foreign file makes the reader do, it is no use
        raise OutputUnusable(f"the DICOM SEG cannot be read ({type(error).__name__})") from error


def _labels(dataset: Dataset, grid: Volume, frames_of_reference: Collection[str]) -> npt.NDArray[np.uint8]:
    if frames_of_reference and str(dataset.get("FrameOfReferenceUID", "")) not in frames_of_reference:
        raise OutputUnusable("the DICOM SEG lies in another frame of reference than the images")
    rows, columns, count = int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames", 1))
    if rows * columns * count > min(_PIXELS_FOR_EACH_VOXEL * grid.array_zyx.size, _MAXIMUM_PIXELS):
        raise OutputUnusable("the DICOM SEG has far more pixels than the images, or than can be held")
    pixels = np.asarray(dataset.pixel_array).reshape(count, rows, columns)
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    if len(groups) != count:
        raise OutputUnusable("the DICOM SEG describes another number of frames than it has")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    kind = str(dataset.SegmentationType)
    limit = int(dataset.get("MaximumFractionalValue", 1)) / 2 if kind == "FRACTIONAL" else 0
    placement = Placement(grid)
    for frame, group in zip(pixels, groups, strict=True):
        affine = _affine(group, shared)
        if kind == "LABELMAP":
            if int(frame.max(initial=0)) > 255:
                raise OutputUnusable("the DICOM SEG has labels above 255")
            placement.add(frame[np.newaxis], affine)
            continue
        number = int(_group(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        if not 1 <= number <= 255:
            raise OutputUnusable("the DICOM SEG has segment numbers above 255")
        placement.add((frame > limit)[np.newaxis], affine, number)
    return placement.labels_zyx


def _affine(group: Dataset, shared: Dataset) -> npt.NDArray[np.float64]:
    """(column, row, 0, 1) of a frame → mm; the third axis is the normal, of length 1 (PS3.3 C.7.6.2.1.1)."""
    directions = _numbers(_group(group, shared, "PlaneOrientationSequence").ImageOrientationPatient, 6)
    spacing = _numbers(_group(group, shared, "PixelMeasuresSequence").PixelSpacing, 2)
    across, down = directions[:3], directions[3:]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across * spacing[1], down * spacing[0], np.cross(across, down)
    affine[:3, 3] = _numbers(_group(group, shared, "PlanePositionSequence").ImagePositionPatient, 3)
    return affine


def _group(group: Dataset, shared: Dataset, keyword: str) -> Dataset:
    for source in (group, shared):
        if items := source.get(keyword):
            return items[0]
    raise OutputUnusable(f"the DICOM SEG has no {keyword}")


def _numbers(value: Any, count: int) -> npt.NDArray[np.float64]:
    numbers = np.array([float(each) for each in value])
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise OutputUnusable("the DICOM SEG states its place in the patient wrongly")
    return numbers
