"""Segmentations, decoded from their bytes and laid over the source images again.

Independent of what wrote them: own unpacking, and positions from the images' headers rather than from the volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import SegmentationStorage

from dicom_sr.checks.pixel_frames import Places, Values, nonzero_frames
from dicom_sr.checks.planes import slices_of
from dicom_sr.checks.subject import Subject
from models.results import LabelMask, Outcome, Segmentation

_LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
_FORMS = {
    ("BINARY", SegmentationStorage): (1,),
    ("FRACTIONAL", SegmentationStorage): (8,),
    ("LABELMAP", _LABEL_MAP_SEGMENTATION): (8, 16),
}
"""Bits allocated by Segmentation Type and SOP class."""
_MAXIMUM = 255
_ROUNDING = 0.501


@dataclass(frozen=True, slots=True)
class _Rebuilt:
    """The masks as the objects show them so far, and what they should be."""

    layers: tuple[LabelMask, ...]
    wanted: Segmentation

    @classmethod
    def of(cls, wanted: Segmentation) -> _Rebuilt:
        """Nothing yet."""
        return cls(tuple(np.zeros_like(layer) for layer in wanted.layers), wanted)

    def by_region(self) -> dict[int, LabelMask]:
        """The mask that each region belongs to."""
        return {
            int(number): mine
            for mine, theirs in zip(self.layers, self.wanted.layers, strict=True)
            for number in np.flatnonzero(np.bincount(theirs.ravel()))
        }

    def wrong(self) -> int:
        """Voxels that differ."""
        return sum(int((mine != theirs).sum()) for mine, theirs in zip(self.layers, self.wanted.layers, strict=True))


def check_overlay(subject: Subject) -> Iterator[str]:
    """Voxels equal the mask, planes are the source's planes (PS3.3 C.8.20, C.7.6.16)."""
    segmentations = subject.of_kind("seg")
    if not segmentations:
        return
    result = subject.result
    if result.outcome is not Outcome.FOUND or result.segmentation is None or subject.source is None:
        yield "seg: there is a segmentation where nothing was found"
        return
    rebuilt = _Rebuilt.of(result.segmentation)
    for role, dataset in segmentations:
        problems = list(_problems(role, dataset, subject, rebuilt))
        yield from problems
        if problems:
            return
    if wrong := rebuilt.wrong():
        yield f"seg: {wrong} voxels differ from the mask"


def _problems(role: str, dataset: FileDataset, subject: Subject, rebuilt: _Rebuilt) -> Iterator[str]:
    shape = rebuilt.wanted.mask_zyx.shape
    bits = _FORMS.get((str(dataset.get("SegmentationType")), str(dataset.get("SOPClassUID"))), ())
    if dataset.get("BitsAllocated") not in bits or (dataset.get("Rows"), dataset.get("Columns")) != shape[1:]:
        yield f"{role}: not a segmentation of its type with the mask's rows and columns"
        return
    if (dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation) != (
        dataset.BitsAllocated,
        dataset.BitsAllocated - 1,
        0,
    ):
        yield f"{role}: stored bits are not those of a segmentation"
        return
    regions = subject.segment_regions(role)
    overlap = "YES" if rebuilt.wanted.overlying and len(regions) > 1 else "NO"
    if dataset.get("SegmentsOverlap") != overlap:
        yield f"{role}: says otherwise than the result whether segments overlap"
    yield from _segment_problems(role, dataset, regions, rebuilt.wanted)
    slices, problems = slices_of(role, dataset, subject)
    yield from problems
    if not problems:
        yield from _voxel_problems(role, dataset, subject, slices, rebuilt)


def _segment_problems(role: str, dataset: Dataset, regions: dict[int, int], wanted: Segmentation) -> Iterator[str]:
    """Each segment is the region it stands for, by number and name; a label map has a background besides."""
    labels = {
        region.number: " ".join(region.label.replace("\\", "/").split())[:64].strip() for region in wanted.regions
    }
    expected = {number: labels.get(region, "") for number, region in regions.items()}
    if dataset.SegmentationType == "LABELMAP":
        expected[0] = "Background"
        if dataset.get("PixelPaddingValue") != 0:
            yield f"{role}: background is not the padding value"
    found = [(int(s.get("SegmentNumber", -1)), str(s.get("SegmentLabel"))) for s in dataset.get("SegmentSequence", [])]
    if found != sorted(expected.items()):
        yield f"{role}: segments are not the regions of the result"
    if dataset.SegmentationType == "FRACTIONAL" and (
        dataset.get("SegmentationFractionalType"),
        dataset.get("MaximumFractionalValue"),
    ) != ("PROBABILITY", _MAXIMUM):
        yield f"{role}: fractions are not probabilities with a maximum of {_MAXIMUM}"


def _voxel_problems(
    role: str, dataset: FileDataset, subject: Subject, slices: list[int], rebuilt: _Rebuilt
) -> Iterator[str]:
    try:
        frames = list(zip(nonzero_frames(dataset), subject.frames[role], slices, strict=True))
    except ValueError:
        yield f"{role}: frames and pixel data do not belong together"
        return
    regions = subject.segment_regions(role)
    table = np.zeros(1 << 16, np.uint16)
    table[list(regions)] = list(regions.values())
    # A label map has several regions in a frame, and one mask; in the other forms a frame is of one region.
    layers = rebuilt.by_region() if rebuilt.wanted.overlying else {}
    for (places, values), group, k in frames:
        if not len(places):
            yield f"{role}: an empty frame"
            return
        labels: Values
        if dataset.SegmentationType == "LABELMAP":
            labels = table[values]
        else:
            number = int(group.first("SegmentIdentificationSequence").ReferencedSegmentNumber)
            if group.indices()[0] != number:
                yield f"{role}: dimension indices name another segment than the frame"
                return
            labels = np.full(len(places), table[number], np.uint16)
        if not labels.all():
            yield f"{role}: a value belongs to no segment"
            return
        if dataset.SegmentationType == "FRACTIONAL" and not _fractions_are_right(places, values, k, rebuilt.wanted):
            yield f"{role}: a stored fraction is not the probability"
            return
        plane = layers.get(int(labels[0]), rebuilt.layers[0])[k].reshape(-1)
        if plane[places].any():
            yield f"{role}: segments overlap"
            return
        plane[places] = labels


def _fractions_are_right(places: Places, values: Values, k: int, wanted: Segmentation) -> bool:
    """Whether stored values are the nearest to the probabilities; in a region none is zero."""
    if wanted.probability_zyx is None:
        return False
    exact: npt.NDArray[np.float64] = wanted.probability_zyx[k].reshape(-1)[places].astype(float) * _MAXIMUM
    near = abs(values - exact) <= _ROUNDING
    return bool((near | ((values == 1) & (exact < 1))).all())
