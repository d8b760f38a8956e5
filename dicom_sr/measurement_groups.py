"""Measurement groups of TID 1500 (PS3.16): regions (TID 1411), marks (TID 1410), findings without a place (TID 1501)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from highdicom.sr import (
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SourceImageForSegmentation,
    TimePointContext,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_sr import codes
from dicom_sr.errors import ObjectInvalid
from dicom_sr.graphics import mark_points
from dicom_sr.key_images import images_of
from dicom_sr.provenance import measurement_algorithm, shortened
from dicom_sr.rendering import RenderContext
from dicom_sr.segmentation import tracking
from dicom_sr.uids import result_uid
from models.results import (
    CodedTerm,
    Finding,
    Laterality,
    Mark,
    MarkShape,
    ModelReference,
    Quantity,
    Region,
    Segmentation,
    StudyResult,
)

if TYPE_CHECKING:
    from dicom_sr.series import SeriesVolume, SourceFrame

Group = (
    VolumetricROIMeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | MeasurementsAndQualitativeEvaluations
)


def region_group(
    region: Region,
    mask: Segmentation,
    model: ModelReference,
    source: SeriesVolume,
    context: RenderContext,
    segmentations: Sequence[Dataset],
    *,
    time_point: TimePointContext | None = None,
) -> Group:
    """TID 1411 group of a region.

    Parameters
    ----------
    segmentations : sequence of Dataset
        Rendered segmentation objects; the segment with the region's Tracking UID is the one referred to.
    time_point : TimePointContext or None
        Where groups of several studies stand beside each other.

    Raises
    ------
    ValueError
        No segment tracks the region.
    """
    tracking_id, tracking_uid = tracking(region, context)
    segmentation, number = _segment_of(tracking_uid, segmentations)
    used = [source.frames[k] for k in _slices(mask, region)]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=UID(tracking_uid), identifier=tracking_id),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_images=[SourceImageForSegmentation(*reference) for reference in images_of(used)],
        ),
        time_point_context=time_point,
        finding_type=codes.from_term(region.finding),
        finding_sites=[_site(region.site, region.laterality)],
        measurements=[measurement(q, model) for q in _quantities(region)],
    )


def mark_group(
    number: int,
    mark: Mark,
    result: StudyResult,
    source: SeriesVolume,
    context: RenderContext,
    *,
    coordinates: bool,
) -> Group:
    """Group of a mark: TID 1410 with its outline, or TID 1501 with its image alone where coordinates are not wanted.

    Parameters
    ----------
    number : int
        Position among the marks, from 1; names the mark where it has no label.

    Raises
    ------
    ObjectInvalid
        The mark does not lie in the image.
    """
    finding, frame = mark.finding, source.frames[mark.slice_index]
    name = shortened(mark.label) or f"Mark {number}"
    identity = TrackingIdentifier(uid=UID(result_uid(context.key, "tracking-mark", number)), identifier=name)
    concept = finding.concept if finding is not None else result.finding
    site = _site(finding.site or result.site, finding.laterality) if finding is not None else _site(result.site)
    measurements = [*_probability(finding, result.model), *(measurement(q, result.model) for q in mark.quantities)]
    evaluations = [presence(finding)] if finding is not None else None
    # Without a number nothing in the group would name the algorithm.
    algorithm = None if measurements else measurement_algorithm(result.model)
    if not coordinates:
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=identity,
            finding_type=codes.from_term(concept),
            finding_sites=[site],
            algorithm_id=algorithm,
            measurements=measurements or None,
            qualitative_evaluations=evaluations,
            source_images=[SourceImageForMeasurementGroup(*reference) for reference in images_of([frame])],
        )
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=identity,
        referenced_region=_image_region(mark, frame, source),
        finding_type=codes.from_term(concept),
        finding_sites=[site],
        algorithm_id=algorithm,
        measurements=measurements or None,
        qualitative_evaluations=evaluations,
    )


def finding_group(
    number: int, finding: Finding, model: ModelReference, source: SeriesVolume, context: RenderContext
) -> Group:
    """TID 1501 group of a condition looked for: its probability, the operating point, and what follows from both."""
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=UID(result_uid(context.key, "tracking-finding", number)), identifier=finding.concept.meaning
        ),
        finding_type=codes.from_term(finding.concept),
        finding_sites=[_site(finding.site, finding.laterality)] if finding.site is not None else None,
        measurements=_probability(finding, model),
        qualitative_evaluations=[presence(finding)],
        source_images=_all_images(source),
    )


def absence_group(result: StudyResult, source: SeriesVolume, context: RenderContext) -> Group:
    """TID 1501 group that states the finding is absent, with the volume from which it would have been found."""
    limit = result.detection_limit_ml
    additions = {} if limit is None else {"detection_limit_ml": _number(limit)}
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=UID(result_uid(context.key, "tracking", 0)), identifier=result.finding.meaning
        ),
        finding_type=codes.from_term(result.finding),
        finding_sites=[FindingSite(codes.from_term(result.site))],
        algorithm_id=measurement_algorithm(result.model, additions),
        qualitative_evaluations=[QualitativeEvaluation(name=codes.PRESENCE, value=codes.ABSENT)],
        source_images=_all_images(source),
    )


def measurement(quantity: Quantity, model: ModelReference, additions: Mapping[str, str] | None = None) -> Measurement:
    """NUM of TID 300 with its own algorithm identification: a number must not lose its author when it is copied.

    The range in which the value lies stands in words among the algorithm's parameters; where it is the measurement's
    uncertainty, it becomes the upper and lower one of TID 310 besides: distances from the value, in its unit.

    Raises
    ------
    ObjectInvalid
        The value is not finite, or lies outside its own interval.
    """
    how = codes.from_term(quantity.method) if quantity.method else None
    is_statistic = how is not None and how.value in codes.DERIVATIONS
    value, unit = _rounded(quantity.value, quantity), codes.from_term(quantity.unit)
    notes = {**(additions or {}), **_words(quantity)}
    made = Measurement(
        name=codes.from_term(quantity.name),
        value=value,
        unit=unit,
        method=None if is_statistic else how,
        derivation=how if is_statistic else None,
        algorithm_id=measurement_algorithm(model, notes),
    )
    if quantity.interval is not None:
        lower, upper = (_rounded(bound, quantity) for bound in quantity.interval)
        if not lower <= value <= upper:
            raise ObjectInvalid(f"{quantity.name.meaning} lies outside its own interval", concept=quantity.name.value)
        if not quantity.is_uncertainty:
            return made
        for name, distance in ((codes.UPPER_UNCERTAINTY, upper - value), (codes.LOWER_UNCERTAINTY, value - lower)):
            # highdicom writes both without a unit; TID 310 means the measurement's own.
            item = NumContentItem(name, _seven_digits(distance), unit, None, RelationshipTypeValues.HAS_PROPERTIES)
            made[0].ContentSequence.append(item)
    return made


def presence(finding: Finding) -> QualitativeEvaluation:
    """What the operating point, or the model itself, decided (CID 240)."""
    return QualitativeEvaluation(name=codes.PRESENCE, value=codes.PRESENT if finding.present else codes.ABSENT)


def _probability(finding: Finding | None, model: ModelReference) -> list[Measurement]:
    if finding is None:
        return []
    if not 0.0 <= finding.probability <= 1.0:
        raise ObjectInvalid("a probability is not between 0 and 1", concept=finding.concept.value)
    point = finding.operating_point
    additions = {} if point is None else {"operating_point": _number(point)}
    quantity = Quantity(_term(codes.PROBABILITY), finding.probability, _term(codes.NO_UNITS))
    return [measurement(quantity, model, additions)]


def _words(quantity: Quantity) -> dict[str, str]:
    """What codes do not say of a number, among the parameters of its algorithm."""
    remark = {"measures": quantity.remark} if quantity.remark else {}
    if quantity.interval is None:
        return remark
    lower, upper = quantity.interval
    meaning = f" ({quantity.interval_meaning})" if quantity.interval_meaning else ""
    return {**remark, "interval": f"{_number(lower)} to {_number(upper)} {quantity.unit.value}{meaning}"}


def _image_region(mark: Mark, frame: SourceFrame, source: SeriesVolume) -> ImageRegion:
    _, rows, columns = source.volume.array_zyx.shape
    is_point = mark.shape is MarkShape.POINT
    ((sop_class, uid, numbers),) = images_of([frame])
    return ImageRegion(
        graphic_type=GraphicTypeValues.POINT if is_point else GraphicTypeValues.POLYLINE,
        graphic_data=mark_points(mark, rows, columns),
        source_image=SourceImageForRegion(sop_class, uid, numbers),
    )


def _segment_of(tracking_uid: str, segmentations: Sequence[Dataset]) -> tuple[Dataset, int]:
    for segmentation in segmentations:
        for segment in segmentation.SegmentSequence:
            if str(segment.get("TrackingUID", "")) == tracking_uid:
                return segmentation, int(segment.SegmentNumber)
    raise ValueError("a region is measured on its segment, and no segment tracks it")


def _site(site: CodedTerm, laterality: Laterality = Laterality.UNKNOWN) -> FindingSite:
    return FindingSite(codes.from_term(site), laterality=codes.side(laterality))


def _all_images(source: SeriesVolume) -> list[SourceImageForMeasurementGroup]:
    return [SourceImageForMeasurementGroup(*reference) for reference in images_of(source.frames)]


def _slices(segmentation: Segmentation, region: Region) -> list[int]:
    present = segmentation.where(region.number).any(axis=(1, 2))
    return [int(k) for k in np.flatnonzero(present)]


def _quantities(region: Region) -> tuple[Quantity, ...]:
    if region.volume_ml is None or any(q.name.value == codes.VOLUME.value for q in region.quantities):
        return region.quantities
    name, unit, method = (_term(c) for c in (codes.VOLUME, codes.MILLILITRE, codes.SUM_OF_VOXELS))
    return (Quantity(name, region.volume_ml, unit, method), *region.quantities)


def _term(code: codes.Code) -> CodedTerm:
    return CodedTerm(code.value, code.scheme_designator, code.meaning)


def _number(value: float) -> str:
    return f"{value:.6g}"


def _seven_digits(value: float) -> float:
    """More than any image carries, and the same text on every machine."""
    return float(f"{value:.7g}")


def _rounded(value: float, quantity: Quantity) -> float:
    if not math.isfinite(value):
        raise ObjectInvalid(f"{quantity.name.meaning} is not a finite number", concept=quantity.name.value)
    return _seven_digits(value)
