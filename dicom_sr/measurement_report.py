"""Measurement reports: Comprehensive 3D SR after TID 1500 (PS3.16).

Regions become TID 1411 groups; "nothing found" becomes a TID 1501 group. The two never share a report: validators, and
some readers, take a mixture for a fault. The total over all regions stands in the text report only: the template for
derived measurements (TID 1420) admits population statistics (CID 7465), not sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from highdicom.sr import (
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceImageForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.uid import UID, Comprehensive3DSRStorage

from dicom_sr import codes
from dicom_sr.composite import Place, compose
from dicom_sr.errors import ObjectInvalid
from dicom_sr.key_images import images_of
from dicom_sr.provenance import measurement_algorithm, observer
from dicom_sr.rendering import RenderContext
from dicom_sr.segmentation import tracking
from dicom_sr.source_header import SourceHeader
from dicom_sr.structured_report import add_document
from dicom_sr.uids import result_uid
from models.results import CodedTerm, ModelReference, Outcome, Quantity, Region, Segmentation, StudyResult

if TYPE_CHECKING:
    from dicom_sr.series import SeriesVolume

ROLE = "measurements"


def render_measurements(
    result: StudyResult,
    header: SourceHeader,
    source: SeriesVolume,
    context: RenderContext,
    *,
    segmentation: Dataset | None,
    known: Sequence[Dataset],
) -> Dataset:
    """Measurement report of an assessed study.

    Parameters
    ----------
    segmentation : Dataset or None
        Rendered segmentation object the groups refer to; needed when something was found.
    known : sequence of Dataset
        Source headers the report may refer to.

    Raises
    ------
    ObjectInvalid
        A number is not finite.
    ValueError
        Something was found and there is no segmentation of it.
    """
    groups: list[VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations]
    if result.outcome is Outcome.NOTHING_FOUND:
        groups = [_absence_group(result, source, context)]
    elif result.segmentation is None or segmentation is None:
        raise ValueError("a finding is measured on its segmentation")
    else:
        mask = result.segmentation
        groups = [_region_group(r, mask, result.model, source, context, segmentation) for r in mask.regions]
        known = [*known, segmentation]
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer(context.identity)),
        procedure_reported=codes.procedure_reported(header.modality),
        imaging_measurements=groups,
        title=codes.IMAGING_MEASUREMENT_REPORT,
    )
    made = compose(
        sop_class_uid=Comprehensive3DSRStorage,
        modality="SR",
        role=ROLE,
        place=Place(ROLE, 1, 1, "AI: measurements, not reviewed"),
        header=header,
        context=context,
        models=(result.model,),
    )
    add_document(made, root=report[0], header=header, known=known)
    return made


def _region_group(
    region: Region,
    mask: Segmentation,
    model: ModelReference,
    source: SeriesVolume,
    context: RenderContext,
    segmentation: Dataset,
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    tracking_id, tracking_uid = tracking(region, context)
    used = [source.frames[k] for k in _slices(mask, region)]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=UID(tracking_uid), identifier=tracking_id),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=region.number,
            source_images=[SourceImageForSegmentation(*reference) for reference in images_of(used)],
        ),
        finding_type=codes.from_term(region.finding),
        finding_sites=[FindingSite(codes.from_term(region.site), laterality=codes.side(region.laterality))],
        measurements=[_measurement(q, model) for q in _quantities(region)],
    )


def _absence_group(
    result: StudyResult, source: SeriesVolume, context: RenderContext
) -> MeasurementsAndQualitativeEvaluations:
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
        source_images=[SourceImageForMeasurementGroup(*reference) for reference in images_of(source.frames)],
    )


def _slices(segmentation: Segmentation, region: Region) -> list[int]:
    present = (segmentation.mask_zyx == region.number).any(axis=(1, 2))
    return [int(k) for k in np.flatnonzero(present)]


def _quantities(region: Region) -> tuple[Quantity, ...]:
    if any(q.name.value == codes.VOLUME.value for q in region.quantities):
        return region.quantities
    return (_volume(region.volume_ml), *region.quantities)


def _volume(value_ml: float) -> Quantity:
    name, unit, method = (
        CodedTerm(c.value, c.scheme_designator, c.meaning)
        for c in (codes.VOLUME, codes.MILLILITRE, codes.SUM_OF_VOXELS)
    )
    return Quantity(name, value_ml, unit, method)


def _number(value: float) -> str:
    return f"{value:.6g}"


def _rounded(quantity: Quantity) -> float:
    """Seven significant digits: more than any image carries, and the same text on every machine."""
    if not math.isfinite(quantity.value):
        raise ObjectInvalid(f"{quantity.name.meaning} is not a finite number", concept=quantity.name.value)
    return float(f"{quantity.value:.7g}")


def _measurement(quantity: Quantity, model: ModelReference) -> Measurement:
    """NUM of TID 300 with its own algorithm identification: a number must not lose its author when it is copied."""
    how = codes.from_term(quantity.method) if quantity.method else None
    is_statistic = how is not None and how.value in codes.DERIVATIONS
    return Measurement(
        name=codes.from_term(quantity.name),
        value=_rounded(quantity),
        unit=codes.from_term(quantity.unit),
        method=None if is_statistic else how,
        derivation=how if is_statistic else None,
        algorithm_id=measurement_algorithm(model),
    )
