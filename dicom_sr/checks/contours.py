"""Structure sets: contours filled again on the planes of the images they name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_sr.checks.planes import floats, plane_of
from dicom_sr.checks.subject import Subject
from dicom_sr.contours import filled
from models.results import Outcome, Region

if TYPE_CHECKING:
    from dicom_sr.series import SourceFrame

_OFF_PLANE_MM = 1e-3


def check_contours(subject: Subject) -> Iterator[str]:
    """Each region of interest, filled, is its region of the mask (PS3.3 C.8.8.5, C.8.8.6)."""
    for role, dataset in subject.of_kind("rtstruct"):
        segmentation = subject.result.segmentation
        if subject.result.outcome is not Outcome.FOUND or segmentation is None or subject.source is None:
            yield f"{role}: there are contours where nothing was found"
            continue
        yield from _space_problems(role, dataset, subject)
        regions = sorted(segmentation.regions, key=lambda region: region.number)
        yield from _region_problems(role, dataset, regions)
        drawn = {int(entry.get("ReferencedROINumber", 0)): entry for entry in dataset.get("ROIContourSequence", [])}
        if list(drawn) != [region.number for region in regions]:
            yield f"{role}: not exactly one drawing for each region"
            continue
        for number, entry in drawn.items():
            yield from _drawing_problems(f"{role}: region {number}", entry, segmentation.where(number), subject)


def _space_problems(role: str, dataset: Dataset, subject: Subject) -> Iterator[str]:
    space = subject.base.get("FrameOfReferenceUID")
    named = [entry.get("FrameOfReferenceUID") for entry in dataset.get("ReferencedFrameOfReferenceSequence", [])]
    of_regions = {entry.get("ReferencedFrameOfReferenceUID") for entry in dataset.get("StructureSetROISequence", [])}
    if not space or named != [space] or of_regions != {space} or dataset.get("FrameOfReferenceUID") != space:
        yield f"{role}: Frame of Reference is not the source's"
    if dataset.get("ApprovalStatus") != "UNAPPROVED":
        yield f"{role}: claims an approval"


def _region_problems(role: str, dataset: Dataset, regions: list[Region]) -> Iterator[str]:
    """Number, name and code of each region of interest."""
    labels = [(r.number, " ".join(r.label.replace("\\", "/").split())[:64].strip()) for r in regions]
    named = [(e.get("ROINumber"), str(e.get("ROIName", ""))) for e in dataset.get("StructureSetROISequence", [])]
    if named != labels:
        yield f"{role}: regions of interest are not the regions of the result"
    if any(e.get("ROIGenerationAlgorithm") != "AUTOMATIC" for e in dataset.get("StructureSetROISequence", [])):
        yield f"{role}: a region of interest does not say that an algorithm made it"
    observed = [
        (e.get("ReferencedROINumber"), [c.get("CodeValue") for c in e.get("RTROIIdentificationCodeSequence", [])])
        for e in dataset.get("RTROIObservationsSequence", [])
    ]
    if observed != [(region.number, [region.finding.value]) for region in regions]:
        yield f"{role}: observations are not the findings of the result"


def _drawing_problems(what: str, entry: Dataset, wanted: npt.NDArray[np.bool_], subject: Subject) -> Iterator[str]:
    assert subject.source is not None
    places = {(f.sop_instance_uid, f.frame_number): k for k, f in enumerate(subject.source.frames)}
    rings: dict[int, list[npt.NDArray[np.float64]]] = {}
    for contour in entry.get("ContourSequence", []):
        points = floats(contour.ContourData).reshape(-1, 3)
        if contour.get("ContourGeometricType") != "CLOSED_PLANAR" or contour.NumberOfContourPoints != len(points):
            yield f"{what}: a contour is not closed, or has another number of points than it says"
            return
        (image,) = contour.ContourImageSequence
        k = places.get((str(image.ReferencedSOPInstanceUID), image.get("ReferencedFrameNumber")))
        if k is None:
            yield f"{what}: a contour is on no image of the source"
            return
        ring = _in_plane(points, subject.source.frames[k], subject)
        if ring is None:
            yield f"{what}: a contour is not in the plane of its image"
            return
        rings.setdefault(k, []).append(ring)
    if set(rings) != set(np.flatnonzero(wanted.any(axis=(1, 2))).tolist()):
        yield f"{what}: contours are on other slices than the region"
        return
    wrong = sum(int((filled(rings[k], wanted.shape[1:]) != wanted[k]).sum()) for k in rings)
    if wrong:
        yield f"{what}: {wrong} voxels differ from the mask when its contours are filled"


def _in_plane(points: npt.NDArray[np.float64], frame: SourceFrame, subject: Subject) -> npt.NDArray[np.float64] | None:
    """Points as (row, column) of the image whose header says where it is; None where one is off its plane."""
    position, orientation, spacing = plane_of(subject.headers[frame.sop_instance_uid], frame.frame_number)
    across, down = floats(orientation).reshape(2, 3)
    row_mm, column_mm = floats(spacing)
    away = points - floats(position)
    if (abs(away @ np.cross(across, down)) > _OFF_PLANE_MM).any():
        return None
    return np.column_stack([away @ down / row_mm, away @ across / column_mm])
