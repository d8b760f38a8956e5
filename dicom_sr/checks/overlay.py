"""The segmentation, unpacked from its bytes and laid over the source images again.

Independent of what wrote it: own unpacking, and positions from the images' headers rather than from the volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_sr.checks.subject import Subject
from models.results import Outcome

if TYPE_CHECKING:
    from dicom_sr.series import SourceFrame

TOLERANCE_MM = 1e-3
TOLERANCE_COSINE = 1e-4


def check_overlay(subject: Subject) -> Iterator[str]:
    """Voxels equal the mask, planes are the source's planes (PS3.3 C.8.20, C.7.6.16)."""
    seg, result = subject.role("seg"), subject.result
    if seg is None:
        return
    if result.outcome is not Outcome.FOUND or result.segmentation is None or subject.source is None:
        yield "seg: there is a segmentation where nothing was found"
        return
    mask = result.segmentation.mask_zyx
    if (seg.get("SegmentationType"), seg.get("BitsAllocated"), seg.get("Rows"), seg.get("Columns")) != (
        "BINARY",
        1,
        *mask.shape[1:],
    ):
        yield "seg: not a binary segmentation with the mask's rows and columns"
        return
    frame_of_reference = subject.base.get("FrameOfReferenceUID")
    if not frame_of_reference or seg.get("FrameOfReferenceUID") != frame_of_reference:
        yield "seg: Frame of Reference is not the source's"
    numbers = [int(segment.get("SegmentNumber", 0)) for segment in seg.get("SegmentSequence", [])]
    if numbers != sorted(region.number for region in result.segmentation.regions):
        yield "seg: segments are not the regions of the result"
    yield from _plane_problems(seg, subject)
    yield from _voxel_problems(seg, mask, subject)


def _unpack(seg: Dataset) -> npt.NDArray[np.uint8] | None:
    """Frames as 0/1, shape (frames, rows, columns); None when the bytes do not fit the header."""
    count, rows, columns = int(seg.get("NumberOfFrames", 0)), int(seg.Rows), int(seg.Columns)
    bits = count * rows * columns
    content = np.frombuffer(seg.get("PixelData", b""), np.uint8)
    if len(content) != (bits + 15) // 16 * 2:
        return None
    return np.unpackbits(content, count=bits, bitorder="little").reshape(count, rows, columns)


def _voxel_problems(seg: Dataset, mask: npt.NDArray[np.uint8], subject: Subject) -> Iterator[str]:
    frames, groups = _unpack(seg), seg.get("PerFrameFunctionalGroupsSequence", [])
    if frames is None or len(groups) != len(frames):
        yield "seg: frames, functional groups and pixel data do not have the same number"
        return
    assert subject.source is not None
    slices = [np.asarray(frame.position_mm, float) for frame in subject.source.frames]
    positions = np.array(slices).reshape(-1, 3)
    rebuilt = np.zeros_like(mask)
    for pixels, group in zip(frames, groups, strict=True):
        position = np.array([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient])
        distances = np.linalg.norm(positions - position, axis=1)
        k = int(distances.argmin())
        if distances[k] > TOLERANCE_MM:
            yield "seg: a frame lies on no slice of the source"
            return
        yield from _source_problems(group, subject.source.frames[k])
        if not pixels.any():
            yield "seg: an empty frame"
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        if (rebuilt[k][pixels > 0] != 0).any():
            yield "seg: segments overlap"
        rebuilt[k][pixels > 0] = number
    if not np.array_equal(rebuilt, mask):
        yield f"seg: {int((rebuilt != mask).sum())} voxels differ from the mask"


def _source_problems(group: Dataset, frame: SourceFrame) -> Iterator[str]:
    """The frame's derivation names the very source frame whose plane it has."""
    references = [r for d in group.get("DerivationImageSequence", []) for r in d.get("SourceImageSequence", [])]
    named = [(str(r.ReferencedSOPInstanceUID), r.get("ReferencedFrameNumber")) for r in references]
    if named != [(frame.sop_instance_uid, frame.frame_number)]:
        yield "seg: a frame does not name the source frame it lies on"


def _plane_problems(seg: Dataset, subject: Subject) -> Iterator[str]:
    """Orientation, spacing and positions against the headers of the images named as sources."""
    assert subject.source is not None
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = _floats(shared.PlaneOrientationSequence[0].ImageOrientationPatient)
    measures = shared.PixelMeasuresSequence[0]
    spacing = _floats(measures.PixelSpacing)
    depth = _floats([measures.SpacingBetweenSlices, measures.SliceThickness])
    if (abs(depth - subject.source.volume.spacing_mm_zyx[0]) > TOLERANCE_MM).any():
        yield "seg: slice distance is not the source's"
    for group in seg.get("PerFrameFunctionalGroupsSequence", []):
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        header = subject.headers.get(str(reference.ReferencedSOPInstanceUID))
        if header is None:
            yield "seg: a frame's source is not among the sources"
            return
        number = reference.get("ReferencedFrameNumber")
        theirs = _plane(header, None if number is None else int(number))
        ours = _floats(group.PlanePositionSequence[0].ImagePositionPatient)
        if abs(ours - _floats(theirs[0])).max() > TOLERANCE_MM:
            yield "seg: a frame is not where its source image is"
            return
        turned = abs(orientation - _floats(theirs[1])).max() > TOLERANCE_COSINE
        if turned or abs(spacing - _floats(theirs[2])).max() > TOLERANCE_MM:
            yield "seg: orientation or pixel spacing is not the source's"
            return


def _plane(header: Dataset, frame_number: int | None) -> tuple[Any, Any, Any]:
    """Position, orientation and pixel spacing of a classic image or of one frame of an Enhanced one."""
    if frame_number is None:
        return header.ImagePositionPatient, header.ImageOrientationPatient, header.PixelSpacing
    shared = header.SharedFunctionalGroupsSequence[0]
    group = header.PerFrameFunctionalGroupsSequence[frame_number - 1]

    def macro(keyword: str) -> Dataset:
        return (group if keyword in group else shared)[keyword][0]

    return (
        macro("PlanePositionSequence").ImagePositionPatient,
        macro("PlaneOrientationSequence").ImageOrientationPatient,
        macro("PixelMeasuresSequence").PixelSpacing,
    )


def _floats(values: Iterable[Any]) -> npt.NDArray[np.float64]:
    return np.array([float(v) for v in values])
