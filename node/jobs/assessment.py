"""What a run says before anything is rendered: by a model, by a stored result, or that it could not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom import dcmread

from dicom_sr.errors import MixedPatients
from dicom_sr.marks import boxes, narrowed, read_marks
from dicom_sr.rendering import PriorObjects
from dicom_sr.roles import fill_roles
from dicom_sr.series import LoadedStudy, SeriesVolume, load_study
from models.answers import answer
from models.card import Family
from models.chat import Origin
from models.errors import ModelError, Refused, StoredResultDamaged
from models.report import draft
from models.results import (
    CodedTerm,
    ModelReference,
    NotCompared,
    Outcome,
    RefusalReason,
    Replaced,
    StudyResult,
)
from models.stored_result import Grid, StoredResult
from node.external.desk import ProgramDesk
from node.external.handing_over import series_files
from node.jobs import comparing
from node.jobs.answering import images_for, question_of
from node.jobs.looking_back import beside, earlier_volumes
from node.jobs.specification import Failure, JobSpec, Predecessor, StoredFile
from node.jobs.stored_files import read_stored, write_stored
from node.jobs.timings import Timings

if TYPE_CHECKING:
    from models.model import Model
    from models.registry import Registry

_SAME_PLACE_MM = 1e-3


@dataclass(frozen=True)
class Assessment:
    """What a run says, before anything is rendered.

    Attributes
    ----------
    source : SeriesVolume or None
        The series on whose grid the mask lies; None when nothing was assessed.
    report_model : ModelReference or None
        The generator that was asked to write the text.
    source_role : str
        Input role of ``source``.
    prior : PriorObjects or None
        What the result's comparison refers to.
    """

    study: LoadedStudy
    result: StudyResult
    source: SeriesVolume | None
    report_model: ModelReference | None
    source_role: str = ""
    prior: PriorObjects | None = None


def assess(spec: JobSpec, registry: Registry, timings: Timings) -> Assessment:
    """Run the model over the study.

    Raises
    ------
    MixedPatients
        The files belong to two patients.
    NodeError
        The model failed.
    """
    with timings.step("load"):
        model = _serving(spec, registry, spec.model_id)
        generator = _serving(spec, registry, spec.report_model) if spec.report_model else None
        study = load_study(spec.files, corrected=spec.corrected)
    if spec.question != "none":
        return _answer(spec, model, study, registry, timings)
    try:
        with timings.step("load"):
            drawn = dcmread(spec.request.path) if spec.request is not None else None
            sources = fill_roles(study if drawn is None else narrowed(study, drawn), model.card.inputs)
            earlier = earlier_volumes(spec.earlier, study, model.card.inputs)
            volumes = {role: source.volume for role, source in sources.items()} | earlier
            show(registry, sources)
            hand_files(model, spec, sources)
        with timings.step("model"):
            if drawn is None or spec.request is None:
                result = model.run(volumes, spec.parameters)
            else:
                points = boxes(read_marks(drawn), sources[model.card.inputs[0].role], follow=spec.request.follow)
                result = model.segment(volumes, points, spec.parameters)
        if spec.earlier is not None and earlier:
            result = beside(result, spec.earlier)
        if spec.limitations:
            result = replace(result, limitations=(*result.limitations, *spec.limitations))
    except MixedPatients:
        raise
    except Refused as refusal:
        result = replace(_refused(model, spec.parameters, refusal), limitations=tuple(spec.limitations))
        return Assessment(study, replace(result, replaces=replaced(spec.predecessor)), None, None)
    result = replace(result, replaces=replaced(spec.predecessor))
    source, role = None, ""
    if result.outcome is not Outcome.NOT_ASSESSED:
        role = result.grid_role or model.card.inputs[0].role
        source = sources[role]
    prior = None
    if spec.prior is not None and source is not None:
        with timings.step("compare"):
            result, prior = comparing.compared(spec.prior, result, source, model.card.inputs)
    with timings.step("report"):
        drafts = tuple(
            draft(result, each, generator=generator, inputs=volumes, policy=spec.contradictions)
            for each in languages_of(spec)
        )
    wrote = generator.reference({}) if generator else None
    return Assessment(study, replace(result, drafts=drafts), source, wrote, role, prior)


def _answer(spec: JobSpec, model: Model, study: LoadedStudy, registry: Registry, timings: Timings) -> Assessment:
    """Have the model answer the study's question; the answer is a draft, and nothing is measured."""
    try:
        question = question_of(spec, study)
        sources = images_for(model, study)
        show(registry, sources)
        volumes = {role: source.volume for role, source in sources.items()}
        wanted = languages_of(spec)
        first = [question.language] if question.language in wanted else []
        with timings.step("model"):
            result = answer(model, question, volumes, list(dict.fromkeys((*first, *wanted))))
    except MixedPatients:
        raise
    except Refused as refusal:
        result = _refused(model, spec.parameters, refusal)
    result = replace(result, limitations=(*result.limitations, *spec.limitations), replaces=replaced(spec.predecessor))
    if result.outcome is Outcome.NOT_ASSESSED:
        return Assessment(study, result, None, None)
    role = next(iter(sources))
    return Assessment(study, result, sources[role], model.reference({}), role)


def show(registry: Registry, sources: Mapping[str, SeriesVolume]) -> None:
    """Tell whoever talks to remote models which images the slices are; what they say decides about the pictures."""
    if registry.chat is not None:
        registry.chat.look_at(
            {
                role: [Origin(frame.sop_instance_uid, frame.frame_number) for frame in source.frames]
                for role, source in sources.items()
            }
        )


def hand_files(model: Model, spec: JobSpec, sources: Mapping[str, SeriesVolume]) -> None:
    """Tell whoever runs programs which files the inputs are made of: whole series, as programs expect them."""
    if model.card.family is Family.EXTERNAL and isinstance(model.programs, ProgramDesk):
        files = series_files(spec.files)
        by_role = {role: files.get(source.series_uid, []) for role, source in sources.items()}
        model.programs.prepare(spec.external, by_role, spec.output_dir)


def _serving(spec: JobSpec, registry: Registry, model_id: str) -> Model:
    model = registry.get(model_id)
    if spec.require_approval:
        model.require_approved(spec.approved)
    return model


def retell(spec: JobSpec, file: StoredFile, registry: Registry, timings: Timings) -> Assessment:
    """The assessment of an earlier run, from its stored result. Images are read, no model runs.

    Raises
    ------
    StoredResultDamaged
        The file is not what was stored, or the images that the model takes now are not those it was made on.
    """
    with timings.step("load"):
        stored = read_stored(file)
        study = load_study(spec.files, corrected=spec.corrected)
        source = None
        if stored.source_role:
            sources = images_for(_as_it_ran(registry, stored.result.model), study)
            source = _where_it_was_made(stored, sources.get(stored.source_role))
        comparison = stored.result.comparison
        prior = None
        if comparison is not None and comparison.prior_segmentation_uid:
            if spec.prior is None or spec.prior.segmentation is None:
                # What cannot be referred to any more cannot be measured against in a report either; the text keeps it.
                stored = replace(stored, result=_without_prior(stored.result))
            else:
                prior = comparing.prior_objects(spec.prior.segmentation)
    return Assessment(study, stored.result, source, stored.report_model, stored.source_role, prior)


def _as_it_ran(registry: Registry, reference: ModelReference) -> Model:
    """The version that made a result, where it is still installed; else the one that stands for it now."""
    return registry.with_digest(reference.model_id, reference.digest) or registry.get(reference.model_id)


def _where_it_was_made(stored: StoredResult, source: SeriesVolume | None) -> SeriesVolume:
    """``source``, if the mask of a stored result lies on its grid: another version may choose another series."""
    grid = stored.grid
    if source is not None and (
        grid is None
        or (
            grid.shape_zyx == source.volume.array_zyx.shape
            and grid.frame_of_reference_uid == source.frame_of_reference_uid
            and np.allclose(grid.affine_lps, source.volume.affine_lps, rtol=0.0, atol=_SAME_PLACE_MM)
        )
    ):
        return source
    raise StoredResultDamaged(
        f"the series that {stored.result.model.model_id} takes from the study now is not the one its result was made on"
    )


def not_run(spec: JobSpec, registry: Registry, reason: Failure, timings: Timings) -> Assessment:
    """Assessment of a run that failed: headers only, no model."""
    with timings.step("load"):
        study = load_study(spec.files, pixels=False, corrected=spec.corrected)
    refusal = RefusalReason(reason.code, reason.message, reason.remedy, reason.detail)
    try:
        model = registry.get(spec.model_id)
    except ModelError:
        result = StudyResult(
            outcome=Outcome.NOT_ASSESSED,
            title=f"Analysis by {spec.model_id}",
            finding=CodedTerm("404684003", "SCT", "Clinical finding"),
            site=CodedTerm("123037004", "SCT", "Body structure"),
            model=ModelReference(spec.model_id, "unknown", spec.model_id, "unknown", "0" * 64),
            refusal=refusal,
        )
    else:
        result = _not_assessed(model, spec.parameters, refusal)
    return Assessment(study, result, None, None)


def store(assessment: Assessment, folder: Path) -> StoredFile:
    """Write the typed result beside the objects made from it."""
    grid = None
    if (source := assessment.source) is not None:
        z, y, x = source.volume.array_zyx.shape
        grid = Grid(source.volume.affine_lps, (z, y, x), source.frame_of_reference_uid)
    stored = StoredResult(assessment.result, assessment.source_role, assessment.report_model, grid)
    return write_stored(stored, folder)


def replaced(predecessor: Predecessor | None) -> Replaced | None:
    """The earlier result as texts speak of it."""
    if predecessor is None:
        return None
    return Replaced(
        moment=predecessor.moment,
        run=predecessor.run,
        outcome=None if predecessor.outcome is None else Outcome(predecessor.outcome),
        total_ml=predecessor.total_ml,
        images_added=predecessor.images_added,
        images_removed=predecessor.images_removed,
        series_added=tuple(predecessor.series_added),
    )


def languages_of(spec: JobSpec) -> list[str]:
    """Every language one of the profiles asks for."""
    wanted = [each for profile in spec.profiles.values() for each in (profile.languages or spec.languages)]
    return list(dict.fromkeys(wanted))


def _without_prior(result: StudyResult) -> StudyResult:
    return replace(result, comparison=None, not_compared=NotCompared.IMAGES_GONE)


def _refused(model: Model, parameters: Mapping[str, str], refusal: Refused) -> StudyResult:
    reason = RefusalReason(refusal.code, refusal.message, refusal.remedy, refusal.detail)
    return _not_assessed(model, parameters, reason)


def _not_assessed(model: Model, parameters: Mapping[str, str], reason: RefusalReason) -> StudyResult:
    card = model.card
    return StudyResult(
        outcome=Outcome.NOT_ASSESSED,
        title=card.title,
        finding=card.finding,
        site=card.site,
        model=model.reference(parameters),
        refusal=reason,
        evidence={"refusal": {"code": reason.code, "message": reason.message, **reason.detail}},
    )
