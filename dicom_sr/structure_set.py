"""RT Structure Set objects (PS3.3 A.19): the outlines of a mask in patient space, for planning and older workstations.

Outlines run along voxel edges in the plane of each image, so that whoever fills them gets the mask back. A hole is joined
with what surrounds it by a keyhole, the only form every reader of CLOSED_PLANAR takes the same way (PS3.3 C.8.8.6.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTStructureSetStorage

from dicom_sr import codes
from dicom_sr.colours import colour_of
from dicom_sr.composite import Place, compose
from dicom_sr.contours import keyhole, outlines
from dicom_sr.errors import SourceUnusable
from dicom_sr.explicit_vr import add_raw
from dicom_sr.functional_groups import decimals
from dicom_sr.multiframe import add_frame_of_reference
from dicom_sr.provenance import SHORT_STRING, segmentation_algorithm, shortened
from dicom_sr.rendering import RenderedObject
from dicom_sr.scene import Scene
from dicom_sr.structured_report import instance_reference
from models.results import Region

if TYPE_CHECKING:
    from dicom_sr.series import SeriesVolume, SourceFrame

__all__ = ["ROLE", "render_structure_set"]

ROLE = "rtstruct"
_SERIES_OFFSET = 11
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, the one value PS3.3 C.8.8.5 leaves for a study
_CONTOUR_DATA = 0x30060050
_LONGEST = 0xFFFE  # of a decimal string in Explicit VR


def render_structure_set(scene: Scene) -> RenderedObject:
    """Structure set with one region of interest for each region of a FOUND result.

    Explicit VR Little Endian, or Implicit where an outline is too long for a decimal string of the former.

    Raises
    ------
    SourceUnusable
        The source has no Frame of Reference, or another number of frames than slices.
    ValueError
        The result has no segmentation.
    """
    segmentation, source = scene.result.segmentation, scene.source
    if segmentation is None:
        raise ValueError("a structure set needs a segmentation")
    if len(source.frames) != segmentation.mask_zyx.shape[0]:
        raise SourceUnusable("the source has another number of frames than slices", frames=len(source.frames))
    regions = sorted(segmentation.regions, key=lambda region: region.number)
    made = compose(
        sop_class_uid=RTStructureSetStorage,
        modality="RTSTRUCT",
        role=ROLE,
        place=Place(ROLE, _SERIES_OFFSET, 1, "AI: contours, not reviewed"),
        header=scene.header,
        context=scene.context,
        models=(scene.result.model,),
    )
    add_frame_of_reference(made, source)
    _add_structure_set(made, scene)
    made.StructureSetROISequence = [_region_of_interest(region, scene) for region in regions]
    drawn = {region.number: _contours(segmentation.where(region.number), source) for region in regions}
    made.ROIContourSequence = [_drawing(number, contours) for number, contours in drawn.items()]
    made.RTROIObservationsSequence = [_observation(region) for region in regions]
    made.ApprovalStatus = "UNAPPROVED"
    lengths = [len(contour.get_item(_CONTOUR_DATA).value) for contours in drawn.values() for contour in contours]
    return RenderedObject(
        ROLE, made, ImplicitVRLittleEndian if max(lengths, default=0) > _LONGEST else ExplicitVRLittleEndian
    )


def _add_structure_set(made: Dataset, scene: Scene) -> None:
    """RT Series and Structure Set modules (PS3.3 C.8.8.1, C.8.8.5)."""
    made.OperatorsName = ""
    made.StructureSetLabel = "AI, not reviewed"
    made.StructureSetName = shortened(f"AI, not reviewed: {scene.result.title}")
    made.StructureSetDate, made.StructureSetTime = made.ContentDate, made.ContentTime
    del made.ContentDate, made.ContentTime  # no attributes of this IOD
    instances = {f.sop_instance_uid: f.sop_class_uid for f in scene.source.frames}
    series = Dataset()
    series.SeriesInstanceUID = scene.source.series_uid
    series.ContourImageSequence = [instance_reference(c, uid) for uid, c in instances.items()]
    study = instance_reference(_STUDY_CLASS, scene.header.study_uid)
    study.RTReferencedSeriesSequence = [series]
    frame_of_reference = Dataset()
    frame_of_reference.FrameOfReferenceUID = scene.source.frame_of_reference_uid
    frame_of_reference.RTReferencedStudySequence = [study]
    made.ReferencedFrameOfReferenceSequence = [frame_of_reference]


def _region_of_interest(region: Region, scene: Scene) -> Dataset:
    model = scene.result.model
    entry = Dataset()
    entry.ROINumber = region.number
    entry.ReferencedFrameOfReferenceUID = scene.source.frame_of_reference_uid
    entry.ROIName = shortened(region.label)
    entry.ROIDescription = f"AI, not reviewed: {region.label}"
    if region.volume_ml is not None:
        entry.ROIVolume = decimals([region.volume_ml])[0]
    entry.ROIGenerationAlgorithm = "AUTOMATIC"
    entry.ROIGenerationDescription = shortened(f"{model.name} {model.version}")
    entry.ROIDerivationAlgorithmIdentificationSequence = segmentation_algorithm(model)
    return entry


def _drawing(number: int, contours: list[Dataset]) -> Dataset:
    """Item of ROI Contour Sequence (PS3.3 C.8.8.6)."""
    entry = Dataset()
    entry.ROIDisplayColor = list(colour_of(number))
    for n, contour in enumerate(contours, start=1):
        contour.ContourNumber = n
    entry.ContourSequence = contours
    entry.ReferencedROINumber = number
    return entry


def _contours(inside_zyx: npt.NDArray[np.bool_], source: SeriesVolume) -> list[Dataset]:
    return [
        _contour(keyhole(polygon), source.frames[int(k)], source.volume.affine_lps)
        for k in np.flatnonzero(inside_zyx.any(axis=(1, 2)))
        for polygon in outlines(inside_zyx[k])
    ]


def _contour(ring: npt.NDArray[np.float64], frame: SourceFrame, affine: npt.NDArray[np.float64]) -> Dataset:
    """Item of Contour Sequence: points in the plane of the image, in mm; a tenth of a micrometre is kept."""
    points = np.asarray(frame.position_mm) + ring[:, 1:] * affine[:3, 0] + ring[:, :1] * affine[:3, 1]
    image = instance_reference(frame.sop_class_uid, frame.sop_instance_uid)
    if frame.frame_number is not None:
        image.ReferencedFrameNumber = frame.frame_number
    contour = Dataset()
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points)
    text = "\\".join(_plain(points.ravel().round(4).tolist()))
    add_raw(contour, _CONTOUR_DATA, "DS", (text + " " * (len(text) % 2)).encode("ascii"))
    return contour


def _plain(values: Sequence[float]) -> list[str]:
    return [f"{value + 0.0:.4f}".rstrip("0").rstrip(".") for value in values]


def _observation(region: Region) -> Dataset:
    """Item of RT ROI Observations Sequence (PS3.3 C.8.8.8): what the outline shows, as a code."""
    entry = Dataset()
    entry.ObservationNumber = entry.ReferencedROINumber = region.number
    entry.ROIObservationLabel = shortened(region.label, SHORT_STRING)
    entry.RTROIIdentificationCodeSequence = [codes.item(codes.from_term(region.finding))]
    entry.RTROIInterpretedType = ""
    entry.ROIInterpreter = ""
    return entry
