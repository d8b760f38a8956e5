"""One run: DICOM in → model → DICOM out. The only place where the three packages meet.

`execute` is the same for the node and for `ainode process`; so are its bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.errors import MixedPatients, ResultError
from dicom_sr.rendering import RenderContext, RenderedObject
from dicom_sr.roles import fill_roles
from dicom_sr.series import LoadedStudy, SeriesVolume, load_study
from dicom_sr.uids import work_key
from dicom_sr.write import write_objects
from models.composer import compose
from models.errors import ModelError, NodeError, Refused, Transient
from models.report import draft
from models.results import CodedTerm, ModelReference, Outcome, RefusalReason, StudyResult
from node import log
from node.archive.placing import as_spool_error
from node.errors import SpoolFull, UnexpectedFailure
from node.jobs.specification import Failure, JobSpec, ResultBundle, WrittenObject
from node.settings import ProfileSection

if TYPE_CHECKING:
    from models.registry import Model, Registry

_LOG = log.logger("execution")


@dataclass
class Timings:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of a block to a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class Assessment:
    """What a run says, before anything is rendered.

    Attributes
    ----------
    source : SeriesVolume or None
        The series on whose grid the mask lies; None when nothing was assessed.
    report_model : ModelReference or None
        The generator that was asked to write the text.
    """

    study: LoadedStudy
    result: StudyResult
    source: SeriesVolume | None
    report_model: ModelReference | None


def execute_guarded(spec: JobSpec, registry: Callable[[], Registry]) -> ResultBundle:
    """Run a job and turn whatever happens into an answer. The outermost frame of a run.

    Parameters
    ----------
    spec : JobSpec
        What to run.
    registry : callable
        Gives the registry; reading the catalogue may fail, too.
    """
    try:
        return execute(spec, registry())
    except NodeError as error:
        return ResultBundle(failure=failure_of(error))
    except MemoryError:
        return ResultBundle(
            failure=Failure(code="MOD-008", message="the machine ran out of memory during the run", transient=True)
        )
    except OSError as error:
        full = as_spool_error(error)
        return ResultBundle(failure=failure_of(full if isinstance(full, SpoolFull) else _unexpected(spec, error)))
    except Exception as error:  # noqa: BLE001  (a job must end with an answer, and the child must live on)
        return ResultBundle(failure=failure_of(_unexpected(spec, error)))


def _unexpected(spec: JobSpec, error: Exception) -> UnexpectedFailure:
    _LOG.error(
        "a run failed unexpectedly", exc_info=error, extra={"facts": {"job": spec.job_id, "study": spec.study_uid}}
    )
    return UnexpectedFailure(f"the run failed unexpectedly: {type(error).__name__} in {_where(error)}")


def execute(spec: JobSpec, registry: Registry) -> ResultBundle:
    """Run a job.

    Parameters
    ----------
    spec : JobSpec
        Files, model, profiles, identity, and the folder objects are written to.
    registry : Registry
        Installed models.

    Returns
    -------
    ResultBundle
        A refusal is an outcome (``not_assessed``, with a status object), and so is a set that failed its check.

    Raises
    ------
    MixedPatients
        The files belong to two patients: nothing may be written into anybody's study.
    NodeError
        The model failed; the caller decides about another attempt and the status object.
    """
    timings = Timings()
    if spec.status_only is not None:
        assessment = _not_run(spec, registry, spec.status_only, timings)
    else:
        assessment = _assess(spec, registry, timings)
    objects: list[WrittenObject] = []
    key, result = "", assessment.result
    for name, profile in sorted(spec.profiles.items()):
        key, result, written = _object_set(spec, assessment, name, profile, timings)
        objects += written
    return ResultBundle(
        outcome=result.outcome.value,
        work_key=key,
        summary=_summary(result, assessment),
        evidence=result.evidence,
        objects=objects,
        timings={step: round(seconds, 4) for step, seconds in timings.seconds.items()},
    )


def failure_of(error: NodeError) -> Failure:
    """An error as it crosses the process boundary."""
    return Failure(
        code=error.code or type(error).__name__,
        message=error.message,
        remedy=error.remedy,
        detail=error.detail,
        transient=isinstance(error, Transient),
    )


def _assess(spec: JobSpec, registry: Registry, timings: Timings) -> Assessment:
    with timings.step("load"):
        model = registry.get(spec.model_id)
        generator = registry.get(spec.report_model) if spec.report_model else None
        study = load_study(spec.files, corrected=spec.corrected)
    try:
        with timings.step("load"):
            sources = fill_roles(study, model.card.inputs)
            volumes = {role: source.volume for role, source in sources.items()}
        with timings.step("model"):
            result = model.run(volumes, spec.parameters)
        if spec.limitations:
            result = replace(result, limitations=(*result.limitations, *spec.limitations))
    except MixedPatients:
        raise
    except Refused as refusal:
        return Assessment(study, _refused(model, spec.parameters, refusal), None, None)
    source = None
    if result.outcome is not Outcome.NOT_ASSESSED:
        role = result.segmentation.role if result.segmentation else model.card.inputs[0].role
        source = sources[role]
    with timings.step("report"):
        languages = _all_languages(spec)
        drafts = tuple(draft(result, each, generator=generator, inputs=volumes) for each in languages)
    wrote = generator.reference({}) if generator else None
    return Assessment(study, replace(result, drafts=drafts), source, wrote)


def _not_run(spec: JobSpec, registry: Registry, reason: Failure, timings: Timings) -> Assessment:
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


def _object_set(
    spec: JobSpec, assessment: Assessment, name: str, profile: ProfileSection, timings: Timings
) -> tuple[str, StudyResult, list[WrittenObject]]:
    """Render, check and write the objects of one profile; a set that fails its check becomes a status object."""
    try:
        return _rendered_set(spec, assessment, assessment.result, name, profile, timings)
    except ResultError as error:
        log.say(_LOG, 40, "objects failed their check", job=spec.job_id, study=spec.study_uid, error=str(error))
        reason = RefusalReason(error.code, error.message, error.remedy, error.detail)
        result = replace(
            assessment.result,
            outcome=Outcome.NOT_ASSESSED,
            segmentation=None,
            total_ml=None,
            totals=(),
            drafts=(),
            refusal=reason,
            evidence={**assessment.result.evidence, "refusal": {"code": error.code, "message": error.message}},
        )
        return _rendered_set(spec, replace(assessment, source=None), result, name, profile, timings)


def _rendered_set(
    spec: JobSpec,
    assessment: Assessment,
    result: StudyResult,
    name: str,
    profile: ProfileSection,
    timings: Timings,
) -> tuple[str, StudyResult, list[WrittenObject]]:
    languages = profile.languages or spec.languages
    result = replace(result, drafts=_drafts(result, languages))
    key = _key(spec, assessment, result, name, profile, languages)
    context = RenderContext(
        identity=spec.identity,
        key=key,
        profile=profile.as_profile(name),
        run=spec.run,
        report_model=assessment.report_model,
        procedures=tuple(spec.procedures),
    )
    with timings.step("render"):
        objects = render(result, assessment.study, context, assessment.source)
    with timings.step("check"):
        check(objects, assessment.study, result, assessment.source)
    with timings.step("write"):
        folder = spec.output_dir / name
        folder.mkdir()
        written = _written(objects, folder, name)
    return key, result, written


def _drafts(result: StudyResult, languages: Sequence[str]) -> tuple[Any, ...]:
    """Drafts in the languages of one profile; what no report model wrote is composed."""
    by_language = {each.language: each for each in result.drafts}
    return tuple(by_language.get(language) or compose(result, language) for language in languages)


def _key(
    spec: JobSpec,
    assessment: Assessment,
    result: StudyResult,
    name: str,
    profile: ProfileSection,
    languages: Sequence[str],
) -> str:
    """Work key of promise 3. A reason for not running is content, so another reason gets other UIDs."""
    parameters = dict(spec.parameters)
    # What the order says is content, and so is what is said of the study before the model runs.
    if spec.procedures:
        parameters["order"] = json.dumps([asdict(each) for each in spec.procedures], sort_keys=True)
    if spec.corrected:
        parameters["corrected"] = json.dumps(spec.corrected, sort_keys=True)
    if spec.limitations:
        parameters["limitations"] = " ".join(spec.limitations)
    if result.refusal is not None:
        parameters["not_assessed"] = f"{result.refusal.code} {result.refusal.message}"
    return work_key(
        digests=assessment.study.digests,
        identity=spec.identity,
        model=result.model,
        parameters=parameters,
        report_model=assessment.report_model,
        languages=languages,
        profile=profile.as_profile(name).content,
        run=spec.run,
    )


def _written(objects: Sequence[RenderedObject], folder: Path, profile: str) -> list[WrittenObject]:
    return [WrittenObject(profile=profile, **asdict(file)) for file in write_objects(objects, folder)]


def _summary(result: StudyResult, assessment: Assessment) -> dict[str, Any]:
    """What the job row keeps of the typed result."""
    regions = result.segmentation.regions if result.segmentation else ()
    return {
        "title": result.title,
        "total_ml": result.total_ml,
        "detection_limit_ml": result.detection_limit_ml,
        "regions": [
            {"label": each.label, "volume_ml": each.volume_ml, "laterality": each.laterality.value} for each in regions
        ],
        "texts": {each.language: each.impression for each in result.drafts},
        "model": result.model.model_id,
        "model_version": result.model.version,
        "model_digest": result.model.digest,
        "provider": result.model.provider,
        "report_model": assessment.report_model.model_id if assessment.report_model else None,
        "refusal": {"code": result.refusal.code, "message": result.refusal.message} if result.refusal else None,
    }


def _all_languages(spec: JobSpec) -> list[str]:
    wanted = [each for profile in spec.profiles.values() for each in (profile.languages or spec.languages)]
    return list(dict.fromkeys(wanted))


def _where(error: BaseException) -> str:
    """Module and line at which an error arose."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "an unknown place"
