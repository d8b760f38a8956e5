"""Measurement reports after TID 1500 (PS3.16), as Comprehensive 3D, Comprehensive or Enhanced SR.

Regions become TID 1411 groups, marks TID 1410 groups, findings and "nothing found" TID 1501 groups. No two kinds share a
report: validators, and some readers, take a mixture for a fault. The total over all regions stands in the text report
only: the template for derived measurements (TID 1420) admits population statistics (CID 7465), not sums.

An Enhanced SR is written without coordinates; a mark is then a TID 1501 group that names its image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from highdicom.sr import MeasurementReport, ObservationContext
from pydicom.dataset import Dataset
from pydicom.uid import UID, Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from dicom_sr import codes
from dicom_sr.comparison_groups import (
    add_change,
    change_of,
    current_time_point,
    prior_group,
    references_of,
)
from dicom_sr.composite import Place, compose
from dicom_sr.measurement_groups import Group, absence_group, finding_group, mark_group, region_group
from dicom_sr.provenance import observer
from dicom_sr.rendering import RenderedObject, kind_of
from dicom_sr.scene import Scene
from dicom_sr.structured_report import add_document
from models.results import LesionChange, Outcome, Region, Segmentation, StudyResult

ROLE = "measurements"
MARKS_ROLE = f"{ROLE}-marks"
FINDINGS_ROLE = f"{ROLE}-findings"

_SOP_CLASSES: dict[str, UID] = {
    "comprehensive_3d": Comprehensive3DSRStorage,
    "comprehensive": ComprehensiveSRStorage,
    "enhanced": EnhancedSRStorage,
}


@dataclass(frozen=True, slots=True)
class _Part:
    """One report: its role, and the groups in it."""

    role: str
    groups: Sequence[Group]


def has_measurements(result: StudyResult) -> bool:
    """Whether there is anything to write: a region, a mark, a finding, or that nothing was found."""
    regions = result.segmentation.regions if result.segmentation is not None else ()
    return bool(regions or result.marks or result.findings) or result.outcome is Outcome.NOTHING_FOUND


def has_groups(scene: Scene) -> bool:
    """Whether a measurement report of the scene has anything in it: regions on a projection are not measured."""
    result = scene.result
    only_shadows = result.segmentation is not None and not scene.source.has_place
    return not only_shadows or bool(result.marks or result.findings)


def render_measurements(scene: Scene) -> list[RenderedObject]:
    """Measurement reports of an assessed result, one for each kind of group; one for each region where the profile asks.

    Raises
    ------
    ObjectInvalid
        A number is not finite, a probability none, or a mark lies outside its image.
    ValueError
        Regions were found and there is no segmentation of them among the objects made.
    """
    return [
        RenderedObject(part.role, _report(part, scene, instance))
        for instance, part in enumerate((part for part in _parts(scene) if part.groups), start=1)
    ]


def _parts(scene: Scene) -> list[_Part]:
    result, source, context = scene.result, scene.source, scene.context
    # A model that only scores findings says of each whether it is there; nothing else was looked for.
    looked_for = result.total_ml is not None or not result.findings
    if result.outcome is Outcome.NOTHING_FOUND and looked_for:
        parts = [_Part(ROLE, [absence_group(result, source, context)])]
    else:
        parts = _region_parts(scene)
    coordinates = context.profile.measurements != "enhanced"
    marks = [
        mark_group(n, mark, result, source, context, coordinates=coordinates)
        for n, mark in enumerate(result.marks, start=1)
    ]
    findings = [
        finding_group(n, finding, result.model, source, context) for n, finding in enumerate(result.findings, start=1)
    ]
    return [*parts, _Part(MARKS_ROLE, marks), _Part(FINDINGS_ROLE, findings)]


def _region_parts(scene: Scene) -> list[_Part]:
    mask = scene.result.segmentation
    if mask is None or not scene.source.has_place:
        return []
    segmentations = [made.dataset for made in scene.made if kind_of(made.role) == "seg"]
    groups = [_compared_groups(region, mask, scene, segmentations) for region in mask.regions]
    if not scene.context.profile.per_lesion:
        return [_Part(ROLE, [*(each for of_region in groups for each in of_region), *_resolved_groups(scene)])]
    return [_Part(f"{ROLE}-{region.number}", group) for region, group in zip(mask.regions, groups, strict=True)]


def _compared_groups(region: Region, mask: Segmentation, scene: Scene, segmentations: Sequence[Dataset]) -> list[Group]:
    """The region's group, and where it was followed from an earlier study that of then."""
    result, comparison = scene.result, scene.result.comparison
    change = change_of(result, region.number)
    moment = current_time_point(str(scene.header.attributes.StudyDate)) if change is not None else None
    group = region_group(region, mask, result.model, scene.source, scene.context, segmentations, time_point=moment)
    if change is None or comparison is None:
        return [group]
    add_change(group, change, comparison, result.model)
    return [group, *_prior_groups([change], scene)]


def _resolved_groups(scene: Scene) -> list[Group]:
    comparison = scene.result.comparison
    lesions = comparison.lesions if comparison is not None else ()
    return _prior_groups([each for each in lesions if each.current_number is None], scene)


def _prior_groups(changes: Sequence[LesionChange], scene: Scene) -> list[Group]:
    comparison, prior = scene.result.comparison, scene.context.prior
    if comparison is None or prior is None:
        return []
    made = [prior_group(change, comparison, prior, scene.result.model) for change in changes]
    return [group for group in made if group is not None]


def _report(part: _Part, scene: Scene, instance: int) -> Dataset:
    context, header = scene.context, scene.header
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer(context.identity)),
        procedure_reported=codes.procedure_reported(header.modality),
        imaging_measurements=list(part.groups),
        title=codes.IMAGING_MEASUREMENT_REPORT,
    )
    made = compose(
        sop_class_uid=_SOP_CLASSES[context.profile.measurements],
        modality="SR",
        role=part.role,
        place=Place(ROLE, 1, instance, "AI: measurements, not reviewed"),
        header=header,
        context=context,
        models=(scene.result.model,),
    )
    segmentations = [rendered.dataset for rendered in scene.made if kind_of(rendered.role) == "seg"]
    earlier = references_of(part.groups, context.prior)
    add_document(made, root=report[0], header=header, known=[*scene.known, *segmentations, *earlier])
    return made
