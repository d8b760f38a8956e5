"""What somebody has drawn: outlines in reports, presentation states, segmentations and structure sets, as boxes on a volume.

An outline lies on an image, in its pixels, or in the patient, in a frame of reference. Both are taken where they were
drawn: by the image's UID, or by position in the same frame of reference; never by order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_sr.errors import MarksUnusable
from dicom_sr.frames import LABEL_MAP_SEGMENTATION
from dicom_sr.loaded import LoadedStudy, SeriesVolume
from models.prompts import BoxPrompt, box_of

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
_PRESENTATIONS = ("1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.11.2")
_REPORTS = ("1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.22")
KINDS: dict[str, tuple[str, ...]] = {
    "SR": _REPORTS,
    "PR": _PRESENTATIONS,
    "SEG": (_SEGMENTATION, LABEL_MAP_SEGMENTATION),
    "RTSTRUCT": (_STRUCTURES,),
}
"""Kind of object → SOP Class UIDs: Enhanced, Comprehensive and Comprehensive 3D SR; grayscale and colour GSPS."""
_NEAREST = 0.75  # of a slice: farther off, an outline is on no slice of the volume
_CORNERS = 2


@dataclass(frozen=True, slots=True)
class Mark:
    """One outline on one plane.

    Attributes
    ----------
    target : int
        Number of the thing drawn, from 1; outlines of one thing on several planes share it.
    points : numpy.ndarray
        (n, 2) column and row, 0.5 at the centre of the first pixel (PS3.3 C.10.5, C.18.6), or (n, 3) mm in patient
        coordinates.
    image : tuple of str and int or None
        SOP Instance UID and frame number (1 for a single-frame image) of points in pixels; None for points in the patient.
    frame_of_reference_uid : str
        Of points in the patient.
    """

    target: int
    points: npt.NDArray[np.float64]
    image: tuple[str, int] | None
    frame_of_reference_uid: str = ""


def referenced_series(request: Dataset) -> dict[str, set[str]]:
    """Series Instance UID → SOP Instance UIDs of the images that an object says it is about; empty: it does not say."""
    found: dict[str, set[str]] = {}
    for item in request.get("ReferencedSeriesSequence") or ():
        named = {*_named(item, "ReferencedImageSequence"), *_named(item, "ReferencedInstanceSequence")}
        found.setdefault(str(item.SeriesInstanceUID), set()).update(named)
    for evidence in request.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for item in evidence.get("ReferencedSeriesSequence") or ():
            found.setdefault(str(item.SeriesInstanceUID), set()).update(_named(item, "ReferencedSOPSequence"))
    for frame in request.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for item in study.get("RTReferencedSeriesSequence") or ():
                named = _named(item, "ContourImageSequence")
                found.setdefault(str(item.SeriesInstanceUID), set()).update(named)
    return found


def narrowed(study: LoadedStudy, request: Dataset) -> LoadedStudy:
    """The study with only those volumes that hold an image which an object is about; all of them where it names none.

    A series may hold several volumes; what was drawn on one of its images is about that one.
    """
    named = {uid for uids in referenced_series(request).values() for uid in uids}
    about = [each for each in study.volumes if any(frame.sop_instance_uid in named for frame in each.frames)]
    return replace(study, volumes=tuple(about)) if about else study


def read_marks(request: Dataset) -> list[Mark]:
    """Every outline an object holds.

    Parameters
    ----------
    request : pydicom.Dataset
        With pixel data where it is a segmentation.

    Raises
    ------
    MarksUnusable
        It holds none, or none that encloses anything: a point is no box.
    """
    kind = next((name for name, classes in KINDS.items() if request.SOPClassUID in classes), None)
    try:
        match kind:
            case "SR":
                marks = list(_report_marks(request))
            case "PR":
                marks = list(_presentation_marks(request))
            case "SEG":
                marks = list(_segment_marks(request))
            case "RTSTRUCT":
                marks = list(_structure_marks(request))
            case _:
                raise MarksUnusable(f"a {request.SOPClassUID.name} holds no outlines that are understood")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise MarksUnusable(f"the outlines cannot be read ({type(error).__name__})") from error
    marks = [mark for mark in marks if len(mark.points) >= _CORNERS and np.ptp(mark.points, axis=0).any()]
    if not marks:
        raise MarksUnusable("the object encloses nothing: it holds no outline, or points only")
    return marks


def boxes(marks: Sequence[Mark], source: SeriesVolume, *, follow: bool) -> tuple[BoxPrompt, ...]:
    """The outlines as boxes on a volume's grid.

    Parameters
    ----------
    follow : bool
        A thing drawn on one slice only is looked for on its neighbours.

    Raises
    ------
    MarksUnusable
        None of them lies on the volume.
    """
    slices = {(frame.sop_instance_uid, frame.frame_number or 1): k for k, frame in enumerate(source.frames)}
    inverse = np.linalg.inv(source.volume.affine_lps)
    found: list[BoxPrompt] = []
    for mark in marks:
        box = _on_image(mark, slices) if mark.image else _in_patient(mark, source, inverse)
        if box is not None and (kept := _inside(box, source.volume.array_zyx.shape)) is not None:
            found.append(kept)
    if not found:
        raise MarksUnusable(f"none of {len(marks)} outline(s) lies on the images that were chosen")
    planes: dict[int, set[int]] = {}
    for box in found:
        planes.setdefault(box.target, set()).add(box.slice_index)
    return tuple(
        BoxPrompt(b.target, b.slice_index, b.top, b.left, b.bottom, b.right, follow and len(planes[b.target]) == 1)
        for b in found
    )


def _on_image(mark: Mark, slices: dict[tuple[str, int], int]) -> BoxPrompt | None:
    assert mark.image is not None
    index = slices.get(mark.image)
    if index is None:
        return None
    columns, rows = (mark.points - 0.5).T
    return _box(mark.target, index, rows, columns)


def _in_patient(mark: Mark, source: SeriesVolume, inverse: npt.NDArray[np.floating]) -> BoxPrompt | None:
    if mark.frame_of_reference_uid != source.frame_of_reference_uid:
        return None
    voxels = (inverse @ np.c_[mark.points, np.ones(len(mark.points))].T)[:3]
    index = int(np.rint(voxels[2].mean()))
    if np.abs(voxels[2] - index).max() > _NEAREST or index < 0:
        return None
    return _box(mark.target, index, voxels[1], voxels[0])


def _box(target: int, index: int, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> BoxPrompt:
    return BoxPrompt(target, index, float(rows.min()), float(columns.min()), float(rows.max()), float(columns.max()))


def _inside(box: BoxPrompt, shape: tuple[int, ...]) -> BoxPrompt | None:
    slices, rows, columns = shape
    outside = box.left > columns - 1 or box.top > rows - 1 or box.bottom < 0 or box.right < 0
    return None if outside or box.slice_index >= slices else box.grown(0.0, rows, columns)


def _report_marks(report: Dataset) -> Iterator[Mark]:
    """SCOORD and SCOORD3D items, each a thing of its own (PS3.3 C.18.6, C.18.9)."""
    for target, item in enumerate(_coordinates(report, 0), start=1):
        numbers = np.asarray(item.GraphicData, dtype=np.float64)
        if item.ValueType == "SCOORD3D":
            points = _enclosing(item.GraphicType, numbers.reshape(-1, 3))
            yield Mark(target, points, None, str(item.ReferencedFrameOfReferenceUID))
            continue
        points = _enclosing(item.GraphicType, numbers.reshape(-1, 2))
        for child in item.get("ContentSequence") or ():
            for image in child.get("ReferencedSOPSequence") or ():
                for number in _frames(image):
                    yield Mark(target, points, (str(image.ReferencedSOPInstanceUID), number))


def _coordinates(item: Dataset, depth: int) -> Iterator[Dataset]:
    if depth > 30:
        raise ValueError("nested too deeply")
    if item.get("ValueType") in ("SCOORD", "SCOORD3D"):
        yield item
    for child in item.get("ContentSequence") or ():
        yield from _coordinates(child, depth + 1)


def _presentation_marks(state: Dataset) -> Iterator[Mark]:
    """Graphic objects in pixels; what is drawn on the display lies on no anatomy (PS3.3 C.10.5)."""
    target = 0
    everywhere = [
        image for series in state.get("ReferencedSeriesSequence") or () for image in series.ReferencedImageSequence
    ]
    for annotation in state.get("GraphicAnnotationSequence") or ():
        images = annotation.get("ReferencedImageSequence") or everywhere
        for drawn in annotation.get("GraphicObjectSequence") or ():
            if drawn.GraphicAnnotationUnits != "PIXEL":
                continue
            target += 1
            points = _enclosing(drawn.GraphicType, np.asarray(drawn.GraphicData, dtype=np.float64).reshape(-1, 2))
            for image in images:
                for number in _frames(image):
                    yield Mark(target, points, (str(image.ReferencedSOPInstanceUID), number))


def _structure_marks(structures: Dataset) -> Iterator[Mark]:
    """Contours of structures, in the patient (PS3.3 C.8.8.6)."""
    frames = {roi.ROINumber: str(roi.ReferencedFrameOfReferenceUID) for roi in structures.StructureSetROISequence}
    for target, roi in enumerate(structures.ROIContourSequence, start=1):
        for contour in roi.get("ContourSequence") or ():
            points = np.asarray(contour.ContourData, dtype=np.float64).reshape(-1, 3)
            yield Mark(target, points, None, frames[roi.ReferencedROINumber])


def _segment_marks(segmentation: Dataset) -> Iterator[Mark]:
    """The corners of each segment on each of its planes (PS3.3 C.8.20)."""
    planes = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    if segmentation.get("SegmentationType") == "FRACTIONAL":
        planes = planes * 2 >= int(segmentation.MaximumFractionalValue)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    labelled = segmentation.SOPClassUID == LABEL_MAP_SEGMENTATION
    for plane, own in zip(planes, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        to_patient = _plane(own, shared)
        if labelled:
            numbers = [int(each) for each in np.unique(plane) if each > 0]
        else:
            group = own if "SegmentIdentificationSequence" in own else shared
            numbers = [int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        for number in numbers:
            mask = plane == number if labelled else plane > 0
            box = box_of(mask, number, 0)
            if box is not None:
                corners = [(box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom)]
                points = np.array([to_patient @ (x, y, 1.0) for x, y in corners])
                yield Mark(number, points, None, str(segmentation.FrameOfReferenceUID))


def _plane(own: Dataset, shared: Dataset) -> npt.NDArray[np.float64]:
    """3×3: column, row and 1 to mm in the patient (PS3.3 C.7.6.2.1.1)."""

    def group(keyword: str) -> Dataset:
        return (own if keyword in own else shared)[keyword].value[0]

    across, down = np.reshape(group("PlaneOrientationSequence").ImageOrientationPatient, (2, 3)).astype(np.float64)
    between_rows, between_columns = map(float, group("PixelMeasuresSequence").PixelSpacing)
    position = np.asarray(group("PlanePositionSequence").ImagePositionPatient, dtype=np.float64)
    return np.stack([across * between_columns, down * between_rows, position], axis=1)


def _enclosing(kind: str, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points that enclose what is drawn: of a circle its square, of an ellipse the ends of its axes (PS3.3 C.18.6.1.2)."""
    if kind == "CIRCLE":
        centre, rim = points[:2]
        radius = float(np.linalg.norm(rim - centre))
        return np.stack([centre - radius, centre + radius])
    if kind in ("POINT", "MULTIPOINT"):
        return points[:1]
    return points


def _frames(image: Dataset) -> list[int]:
    number = image.get("ReferencedFrameNumber")
    if number in (None, ""):
        return [1]
    return [
        int(each) for each in (number if isinstance(number, Sequence) and not isinstance(number, str) else [number])
    ]


def _named(item: Dataset, keyword: str) -> set[str]:
    return {str(each.ReferencedSOPInstanceUID) for each in item.get(keyword) or ()}
