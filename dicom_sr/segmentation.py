"""Segmentation objects (PS3.3 A.51): a label mask on the grid of its source, as BINARY segments.

The pixel part is written here rather than by highdicom because a wrong overlay is the worst thing this node can do:
positions, orientation and spacing come from the volume the mask was computed on, never from attributes such as
Spacing Between Slices that scanners fill carelessly, and every frame names the very source frame below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage
from pydicom.valuerep import format_number_as_ds

from dicom_sr import codes
from dicom_sr.composite import Place, compose
from dicom_sr.errors import SourceUnusable
from dicom_sr.provenance import segmentation_algorithm, shortened
from dicom_sr.rendering import RenderContext
from dicom_sr.source_header import SourceHeader
from dicom_sr.structured_report import instance_reference
from dicom_sr.uids import result_uid
from models.results import Region, StudyResult

if TYPE_CHECKING:
    from dicom_sr.series import SeriesVolume, SourceFrame

ROLE = "seg"
_SEGMENT_NUMBER = 0x0062000B
_SEGMENT_POINTER = 0x0062000A
_POSITION = 0x00200032
_POSITION_POINTER = 0x00209113
_COLOURS = ((220, 50, 47), (255, 170, 0), (0, 160, 220), (170, 90, 200), (90, 190, 60), (240, 120, 180))


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame: which segment, on which slice of the volume."""

    segment: int
    slice_index: int


def tracking(region: Region, context: RenderContext) -> tuple[str, str]:
    """Tracking ID and Tracking UID of a region; the measurements refer to it by the same pair."""
    return shortened(region.label), result_uid(context.key, "tracking", region.number)


def render_segmentation(
    result: StudyResult, header: SourceHeader, source: SeriesVolume, context: RenderContext
) -> Dataset:
    """Segmentation of a FOUND result.

    Parameters
    ----------
    source : SeriesVolume
        The volume whose voxels the mask counts; ``frames`` in array order.

    Raises
    ------
    SourceUnusable
        The source has no Frame of Reference, or fewer frames than slices.
    ValueError
        ``result`` has no segmentation.
    """
    if result.segmentation is None:
        raise ValueError("a segmentation object needs a segmentation")
    mask, regions = result.segmentation.mask_zyx, result.segmentation.regions
    if len(source.frames) != mask.shape[0]:
        raise SourceUnusable("the source has another number of frames than slices", frames=len(source.frames))
    made = compose(
        sop_class_uid=SegmentationStorage,
        modality="SEG",
        role=ROLE,
        place=Place("seg", 0, 1, f"AI: segmentation, {result.model.model_id} {result.model.version}"),
        header=header,
        context=context,
        models=(result.model,),
    )
    numbers = sorted(region.number for region in regions)
    frames = [_Frame(n, int(k)) for n in numbers for k in np.flatnonzero((mask == n).any(axis=(1, 2)))]
    _add_image(made, mask, result, source.header)
    _add_series_and_reference(made, header, source)
    made.SegmentSequence = [_segment(region, result, context) for region in sorted(regions, key=lambda r: r.number)]
    _add_dimensions(made, result_uid(context.key, "dimensions"))
    made.SharedFunctionalGroupsSequence = [_shared(source.volume.affine_lps)]
    made.PerFrameFunctionalGroupsSequence = _per_frame(frames, source.frames)
    made.NumberOfFrames = len(frames)
    made.PixelData = _packed(mask, frames)
    made["PixelData"].VR = "OB"
    return made


def _packed(mask: npt.NDArray[np.uint8], frames: Sequence[_Frame]) -> bytes:
    """One bit a pixel, least significant first, frames without padding between them (PS3.5 8.1.1)."""
    planes = np.stack([mask[f.slice_index] == f.segment for f in frames])
    packed = np.packbits(planes.ravel(), bitorder="little").tobytes()
    return packed + b"\x00" * (len(packed) % 2)


def _add_image(made: Dataset, mask: npt.NDArray[np.uint8], result: StudyResult, source_header: Dataset) -> None:
    """General Image, Image Pixel and Segmentation Image modules (PS3.3 C.7.6.1, C.7.6.3, C.8.20.2)."""
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.Rows, made.Columns = (int(n) for n in mask.shape[1:])
    made.BitsAllocated = made.BitsStored = 1
    made.HighBit = made.PixelRepresentation = 0
    made.SegmentationType = "BINARY"
    made.SegmentsOverlap = "NO"
    made.ContentLabel = "AI_SEGMENTATION"
    made.ContentDescription = shortened(f"AI, not reviewed: {result.title}")
    made.ContentCreatorName = ""  # Type 3 today, Type 2 in the editions DCMTK and dcmqi follow
    lossy = str(source_header.get("LossyImageCompression", "") or "")
    ratio, method = (source_header.get(f"LossyImageCompression{x}") for x in ("Ratio", "Method"))
    made.LossyImageCompression = "00"
    if lossy == "01" and ratio and method:
        made.LossyImageCompression = lossy
        made.LossyImageCompressionRatio = ratio
        made.LossyImageCompressionMethod = method


def _add_series_and_reference(made: Dataset, header: SourceHeader, source: SeriesVolume) -> None:
    """Frame of Reference and Common Instance Reference modules, and what the series inherits from the order."""
    frame_of_reference = str(source.header.get("FrameOfReferenceUID", "") or "")
    if not frame_of_reference:
        raise SourceUnusable("the source series has no Frame of Reference UID", attribute="FrameOfReferenceUID")
    made.FrameOfReferenceUID = frame_of_reference
    made.PositionReferenceIndicator = source.header.get("PositionReferenceIndicator", "") or ""
    if header.body_part:
        made.BodyPartExamined = header.body_part
    requests = [_request_attributes(entry) for entry in header.requests]
    if any(len(entry) for entry in requests):
        made.RequestAttributesSequence = [entry for entry in requests if len(entry)]
    instances = {f.sop_instance_uid: f.sop_class_uid for f in source.frames}
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedInstanceSequence = [instance_reference(c, uid) for uid, c in instances.items()]
    made.ReferencedSeriesSequence = [series]


def _request_attributes(request: Dataset) -> Dataset:
    """Item of Request Attributes Sequence (PS3.3 10.6), only where the images name a request."""
    if not request.get("RequestedProcedureID") and not request.get("ScheduledProcedureStepID"):
        return Dataset()
    attributes = Dataset()
    attributes.update(deepcopy(request))
    # The order's numbers are of the macro in reports only (PS3.3 tables 10-9 and C.17-2).
    for keyword in ("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"):
        if keyword in attributes:
            delattr(attributes, keyword)
    return attributes


def _segment(region: Region, result: StudyResult, context: RenderContext) -> Dataset:
    tracking_id, tracking_uid = tracking(region, context)
    segment = hd.seg.SegmentDescription(
        segment_number=region.number,
        segment_label=shortened(region.label),
        segmented_property_category=codes.from_term(region.category),
        segmented_property_type=codes.from_term(region.finding),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=segmentation_algorithm(result.model),
        tracking_id=tracking_id,
        tracking_uid=tracking_uid,
        anatomic_regions=[codes.from_term(region.site)],
        display_color=CIELabColor.from_rgb(*_COLOURS[(region.number - 1) % len(_COLOURS)]),
    )
    if side := codes.side(region.laterality):
        segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [codes.item(side)]
    segment.SegmentDescription = shortened(f"AI, not reviewed: {region.label}")
    return segment


def _add_dimensions(made: Dataset, organization_uid: str) -> None:
    """Multi-frame Dimension module (PS3.3 C.7.6.17): by segment, then by position."""
    organization = Dataset()
    organization.DimensionOrganizationUID = organization_uid
    made.DimensionOrganizationSequence = [organization]
    made.DimensionIndexSequence = [
        _dimension(organization_uid, _SEGMENT_NUMBER, _SEGMENT_POINTER, "Segment Number"),
        _dimension(organization_uid, _POSITION, _POSITION_POINTER, "Image Position Patient"),
    ]


def _dimension(organization_uid: str, pointer: int, group: int, label: str) -> Dataset:
    dimension = Dataset()
    dimension.DimensionOrganizationUID = organization_uid
    dimension.DimensionIndexPointer = pointer
    dimension.FunctionalGroupPointer = group
    dimension.DimensionDescriptionLabel = label
    return dimension


def _decimals(values: Sequence[float]) -> list[str]:
    # Eleven digits are far below a micrometre and swallow what the arithmetic added to 1.8.
    return [format_number_as_ds(round(float(v), 11) + 0.0) for v in values]


def _shared(affine: npt.NDArray[np.float64]) -> Dataset:
    """Orientation and spacing of every frame, from the grid itself."""
    columns, rows, slices = (float(n) for n in np.linalg.norm(affine[:3, :3], axis=0))
    orientation = Dataset()
    orientation.ImageOrientationPatient = _decimals([*(affine[:3, 0] / columns), *(affine[:3, 1] / rows)])
    measures = Dataset()
    # A segment's voxels fill the gap between slices, as the volume in the report does.
    measures.SliceThickness, measures.SpacingBetweenSlices = _decimals([slices, slices])
    measures.PixelSpacing = _decimals([rows, columns])
    shared = Dataset()
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    return shared


def _per_frame(frames: Sequence[_Frame], sources: Sequence[SourceFrame]) -> list[Dataset]:
    used = sorted({frame.slice_index for frame in frames})
    rank = {k: n for n, k in enumerate(used, start=1)}
    return [_functional_groups(frame, rank[frame.slice_index], sources[frame.slice_index]) for frame in frames]


def _functional_groups(frame: _Frame, rank: int, source: SourceFrame) -> Dataset:
    reference = instance_reference(source.sop_class_uid, source.sop_instance_uid)
    if source.frame_number is not None:
        reference.ReferencedFrameNumber = source.frame_number
    reference.SpatialLocationsPreserved = "YES"
    reference.PurposeOfReferenceCodeSequence = [codes.item(codes.SOURCE_FOR_PROCESSING)]
    derivation = Dataset()
    derivation.SourceImageSequence = [reference]
    derivation.DerivationCodeSequence = [codes.item(codes.SEGMENTATION_DERIVATION)]
    content = Dataset()
    content.DimensionIndexValues = [frame.segment, rank]
    position = Dataset()
    position.ImagePositionPatient = _decimals(source.position_mm)
    identification = Dataset()
    identification.ReferencedSegmentNumber = frame.segment
    groups = Dataset()
    groups.DerivationImageSequence = [derivation]
    groups.FrameContentSequence = [content]
    groups.PlanePositionSequence = [position]
    groups.SegmentIdentificationSequence = [identification]
    return groups
