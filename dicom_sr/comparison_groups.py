"""Comparison with an earlier study in a TID 1500 report: the change on the group of now, and a group of then beside it.

Both groups have one Tracking UID and a time point (TID 1502): "current" and "prior", each with its study date. The change is
a difference in size, in mL and in per cent of the earlier volume. TID 1411 has no row for a qualitative difference
(CID 6134); it modifies the number it judges (TID 1419 row 6): the difference, or of a new lesion the volume.
Time Point Order is left out: validators take it for a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from highdicom.sr import (
    CodeContentItem,
    ContentSequence,
    FindingSite,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForSegmentation,
    TimePointContext,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_sr import codes
from dicom_sr.measurement_groups import Group, measurement
from dicom_sr.provenance import shortened
from dicom_sr.rendering import PriorObjects
from models.results import Change, CodedTerm, Comparison, LesionChange, ModelReference, Quantity, StudyResult

CURRENT, PRIOR = "current", "prior"

_DIFFERENCES = {
    Change.NEW: codes.NEW_FINDING,
    Change.LARGER: codes.INCREASE_IN_SIZE,
    Change.SMALLER: codes.DECREASE_IN_SIZE,
    Change.UNCHANGED: codes.NO_SIGNIFICANT_CHANGE,
}


def change_of(result: StudyResult, number: int) -> LesionChange | None:
    """How the region with that number compares; None where nothing was compared."""
    lesions = result.comparison.lesions if result.comparison is not None else ()
    return next((each for each in lesions if each.current_number == number), None)


def current_time_point(study_date: str) -> TimePointContext:
    """Time point of a group of now."""
    return TimePointContext(time_point=CURRENT, subject_time_point_identifier=study_date or None)


def add_change(group: Group, change: LesionChange, comparison: Comparison, model: ModelReference) -> None:
    """Add to a region's group by how much it differs, in mL and in per cent of the earlier volume, and the coded difference."""
    content = ContentSequence()
    notes = {
        "compared_with_study": comparison.prior_study_uid,
        "unchanged_up_to": f"{100 * comparison.tolerance:.0f} % or {comparison.tolerance_ml:.6g} mL",
    }
    for quantity in changes(change):
        content.extend(measurement(quantity, model, notes))
    group[0].ContentSequence.extend(content)
    if (difference := _DIFFERENCES.get(change.change)) is not None:
        number = next(iter(content), None) or _volume_of(group)
        modifier = CodeContentItem(codes.QUALITATIVE_DIFFERENCE, difference, RelationshipTypeValues.HAS_CONCEPT_MOD)
        number.ContentSequence.append(modifier)


def _volume_of(group: Group) -> Dataset:
    return next(
        entry
        for entry in group[0].ContentSequence
        if entry.ValueType == "NUM" and entry.ConceptNameCodeSequence[0].CodeValue == codes.VOLUME.value
    )


def changes(change: LesionChange) -> list[Quantity]:
    """Change of volume in mL and in per cent of the earlier one; nothing where there is only one volume."""
    if change.current_ml is None or not change.prior_ml:
        return []
    difference = change.current_ml - change.prior_ml
    return [
        Quantity(_term(codes.DIFFERENCE_IN_SIZE), difference, _term(codes.MILLILITRE)),
        Quantity(_term(codes.DIFFERENCE_IN_SIZE), 100.0 * difference / change.prior_ml, _term(codes.PERCENT)),
    ]


def prior_group(
    change: LesionChange, comparison: Comparison, prior: PriorObjects, model: ModelReference
) -> Group | None:
    """TID 1411 group of a lesion then, on its segment of the earlier segmentation; None where it was not there."""
    if change.prior_number is None or change.prior_ml is None:
        return None
    segment = next(
        (each for each in prior.segmentation.SegmentSequence if int(each.SegmentNumber) == change.prior_number), None
    )
    if segment is None or not change.tracking.uid:
        return None
    made = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=UID(change.tracking.uid), identifier=shortened(change.tracking.identifier)
        ),
        referenced_segment=ReferencedSegment(
            sop_class_uid=prior.segmentation.SOPClassUID,
            sop_instance_uid=prior.segmentation.SOPInstanceUID,
            segment_number=change.prior_number,
            source_images=[
                SourceImageForSegmentation(*reference) for reference in _images(prior.segmentation, change.prior_number)
            ],
        ),
        time_point_context=TimePointContext(
            time_point=PRIOR, subject_time_point_identifier=comparison.prior_date or None
        ),
        finding_type=_code(segment.SegmentedPropertyTypeCodeSequence[0]),
        finding_sites=[FindingSite(_code(segment.AnatomicRegionSequence[0]))],
        measurements=[measurement(_volume(change.prior_ml), model)],
    )
    return made


def references_of(groups: Sequence[Group], prior: PriorObjects | None) -> list[Dataset]:
    """Headers of earlier instances that groups may refer to."""
    return [] if prior is None or not groups else [prior.segmentation, *prior.sources]


def _images(segmentation: Dataset, number: int) -> Iterator[tuple[str, str, list[int] | None]]:
    """Class, instance and frames of the images below a segment, in the order of its frames."""
    found: dict[tuple[str, str], list[int]] = {}
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        segments = [int(each.ReferencedSegmentNumber) for each in group.get("SegmentIdentificationSequence", [])]
        if segments and number not in segments:
            continue
        for derivation in group.get("DerivationImageSequence", []):
            for source in derivation.get("SourceImageSequence", []):
                key = (str(source.ReferencedSOPClassUID), str(source.ReferencedSOPInstanceUID))
                frames = found.setdefault(key, [])
                if "ReferencedFrameNumber" in source:
                    value = source.ReferencedFrameNumber
                    frames += [int(value)] if isinstance(value, int | str) else [int(each) for each in value]
    for (sop_class, uid), frames in found.items():
        yield sop_class, uid, sorted(set(frames)) or None


def _volume(value_ml: float) -> Quantity:
    return Quantity(_term(codes.VOLUME), value_ml, _term(codes.MILLILITRE), _term(codes.SUM_OF_VOXELS))


def _term(code: codes.Code) -> CodedTerm:
    return CodedTerm(code.value, code.scheme_designator, code.meaning)


def _code(entry: Dataset) -> codes.Code:
    return codes.Code(entry.CodeValue, entry.CodingSchemeDesignator, entry.CodeMeaning)
