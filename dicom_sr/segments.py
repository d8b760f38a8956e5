"""Segments: what each region of a mask is, who found it, and by which identity it is followed (PS3.3 C.8.20.2)."""

from __future__ import annotations

import highdicom as hd
from highdicom.color import CIELabColor
from pydicom.dataset import Dataset

from dicom_sr import codes
from dicom_sr.colours import colour_of
from dicom_sr.provenance import segmentation_algorithm, shortened
from dicom_sr.rendering import RenderContext
from dicom_sr.uids import result_uid
from models.results import ModelReference, Region


def tracking(region: Region, context: RenderContext) -> tuple[str, str]:
    """Tracking ID and Tracking UID of a region; the measurements refer to it by the same pair.

    A lesion followed from an earlier study keeps its identity; another one gets its own, which follows from the work.
    """
    if region.tracking is not None:
        return shortened(region.tracking.identifier), region.tracking.uid
    return shortened(region.label), result_uid(context.key, "tracking", region.number)


def describe(region: Region, number: int, model: ModelReference, context: RenderContext) -> Dataset:
    """Item of Segment Sequence for a region, under a Segment Number."""
    tracking_id, tracking_uid = tracking(region, context)
    segment = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=shortened(region.label),
        segmented_property_category=codes.from_term(region.category),
        segmented_property_type=codes.from_term(region.finding),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=segmentation_algorithm(model),
        tracking_id=tracking_id,
        tracking_uid=tracking_uid,
        anatomic_regions=[codes.from_term(region.site)],
        display_color=CIELabColor.from_rgb(*colour_of(region.number)),
    )
    if side := codes.side(region.laterality):
        segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [codes.item(side)]
    segment.SegmentDescription = shortened(f"AI, not reviewed: {region.label}")
    return segment


def background(model: ModelReference) -> Dataset:
    """Segment 0 of a label map: everything that belongs to no region."""
    segment = Dataset()
    segment.SegmentNumber = 0
    segment.SegmentLabel = "Background"
    segment.SegmentedPropertyCategoryCodeSequence = [codes.item(codes.BACKGROUND)]
    segment.SegmentedPropertyTypeCodeSequence = [codes.item(codes.BACKGROUND)]
    segment.SegmentAlgorithmType = "AUTOMATIC"
    segment.SegmentAlgorithmName = shortened(model.name)
    segment.RecommendedDisplayCIELabValue = list(CIELabColor(0.0, 0.0, 0.0).value)
    return segment
