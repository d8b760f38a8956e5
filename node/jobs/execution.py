"""One run: DICOM in → model → DICOM out. The only place where the three packages meet.

`execute` is the same for the node and for `ainode process`; so are its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset

from dicom_sr.anonymous.anonymiser import Anonymiser
from dicom_sr.anonymous.export import IMAGE_ROLE, export_anonymous
from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.errors import CharacterUnencodable, NoAnonymisationKey, ResultError
from dicom_sr.header_gaps import header_gaps
from dicom_sr.rendering import EarlierObject, RenderContext, RenderedObject
from dicom_sr.uids import work_key
from dicom_sr.versions import header_of
from dicom_sr.write import write_objects
from models.composer import compose
from models.errors import NodeError, Transient
from models.lineage import lineage
from models.results import Outcome, RefusalReason, StudyResult
from models.room_on_device import left_devices, where_there_is_room
from node import log
from node.archive.placing import as_spool_error
from node.errors import SpoolFull, UnexpectedFailure
from node.jobs.assessment import Assessment, assess, not_run, retell, store
from node.jobs.combining import combine
from node.jobs.looking_back import EARLIER_IMAGES
from node.jobs.retracting import retract
from node.jobs.specification import Failure, JobSpec, ResultBundle, WrittenObject
from node.jobs.summarising import summarise
from node.jobs.timings import Timings
from node.jobs.work_parameters import work_parameters
from node.settings import ProfileSection

if TYPE_CHECKING:
    from models.model import Model
    from models.registry import Registry

_LOG = log.logger("execution")


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
    left: dict[str, str] = {}
    if spec.retraction is not None:
        return retract(spec, spec.retraction, registry, timings)
    if spec.accounts is not None:
        return combine(spec, spec.accounts, registry, timings)
    if spec.status_only is not None:
        assessment = not_run(spec, registry, spec.status_only, timings)
    elif spec.stored is not None:
        assessment = retell(spec, spec.stored, registry, timings)
    else:
        assessment = where_there_is_room(lambda: models_of(spec, registry), lambda: assess(spec, registry, timings))
        left = left_devices(models_of(spec, registry))
    if gaps := header_gaps(assessment.study):
        log.say(_LOG, 30, "results have attributes empty", job=spec.job_id, study=spec.study_uid, attributes=list(gaps))
    sets: list[ObjectSet] = []
    left_out: dict[str, Any] = {}
    for name, profile in sorted(spec.profiles.items()):
        made = _object_set(spec, assessment, name, profile, timings)
        if profile.anonymous:
            if made.result.outcome is Outcome.NOT_ASSESSED:
                continue  # a status object is for who asked about this patient
            made, left_out[f"left_out_of_{name}"] = _anonymous_set(spec, made, profile, timings)
        sets.append(made)
    result = sets[-1].result if sets else assessment.result
    stored = None
    if spec.status_only is None and spec.stored is None:
        with timings.step("write"):
            stored = store(assessment, spec.output_dir)
    return ResultBundle(
        outcome=result.outcome.value,
        work_key=sets[-1].key if sets else "",
        summary=summarise(result, assessment),
        evidence={**result.evidence, **left_out, **({"left_the_device": left} if left else {})},
        objects=[written for each in sets for written in each.written],
        timings={step: round(seconds, 4) for step, seconds in timings.seconds.items()},
        stored=stored,
        checks={each.profile: each.verdict for each in sets},
        embedding=_embedding(assessment.result),
    )


def models_of(spec: JobSpec, registry: Registry) -> list[Model]:
    """The models that a run may use, with those that they are made of."""
    named = [name for name in (spec.model_id, spec.report_model) if name]
    return [each for name in named for each in lineage(registry.get(name), standing_in=True)]


def _embedding(result: StudyResult) -> list[float]:
    return [] if result.embedding is None else [float(each) for each in result.embedding]


def failure_of(error: NodeError) -> Failure:
    """An error as it crosses the process boundary."""
    return Failure(
        code=error.code or type(error).__name__,
        message=error.message,
        remedy=error.remedy,
        detail=error.detail,
        transient=isinstance(error, Transient),
    )


@dataclass(frozen=True)
class ObjectSet:
    """What one profile gets.

    Attributes
    ----------
    key : str
        Work key of promise 3, hex.
    result : StudyResult
        What the objects say: the assessment, or that its objects failed their check.
    verdict : dict
        Of the check before sending, for the ledger.
    """

    profile: str
    key: str
    result: StudyResult
    written: list[WrittenObject]
    verdict: dict[str, Any]


def _object_set(
    spec: JobSpec, assessment: Assessment, name: str, profile: ProfileSection, timings: Timings
) -> ObjectSet:
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
        if isinstance(error, CharacterUnencodable):
            # The status names the patient too: in Unicode, whatever the destination prefers.
            profile = profile.model_copy(update={"character_set": "utf-8"})
            if assessment.result.outcome is Outcome.NOT_ASSESSED:
                result = assessment.result  # the first reason is the one to know
        status = _rendered_set(spec, replace(assessment, source=None, prior=None), result, name, profile, timings)
        failed = {"passed": False, "code": error.code, "problems": error.detail.get("problems", [error.message])[:20]}
        return replace(status, verdict={**failed, "instead": status.verdict})


def _rendered_set(
    spec: JobSpec,
    assessment: Assessment,
    result: StudyResult,
    name: str,
    profile: ProfileSection,
    timings: Timings,
) -> ObjectSet:
    languages = profile.languages or spec.languages
    result = replace(result, drafts=_drafts(result, languages))
    key = _key(spec, assessment, result, name, profile, languages)
    context = RenderContext(
        identity=spec.identity,
        key=key,
        profile=profile.as_profile(name),
        run=spec.run,
        report_model=assessment.report_model,
        earlier=earlier_objects(spec, name),
        prior=assessment.prior,
        procedures=tuple(spec.procedures),
    )
    with timings.step("render"):
        objects = render(result, assessment.study, context, assessment.source)
    with timings.step("check"):
        parts = check(
            objects,
            assessment.study,
            result,
            assessment.source,
            profile=context.profile,
            known=_known(context, assessment),
        )
    with timings.step("write"):
        folder = spec.output_dir / name
        folder.mkdir()
        written = _written(objects, folder, name)
    verdict: dict[str, Any] = {
        "passed": True,
        "objects": len(objects),
        "parts": parts,
        "release": spec.identity.software_version,
    }
    if gaps := header_gaps(assessment.study):
        verdict["left_empty"] = list(gaps)
    return ObjectSet(name, key, result, written, verdict)


def earlier_objects(spec: JobSpec, profile: str) -> tuple[EarlierObject, ...]:
    """The objects whose place the set of a profile takes."""
    found = spec.predecessor.objects.get(profile, []) if spec.predecessor is not None else []
    return tuple(EarlierObject(**each.model_dump()) for each in found)


def _known(context: RenderContext, assessment: Assessment) -> list[Dataset]:
    """Headers of what a set may refer to beyond the study and itself."""
    known = [header_of(each, str(assessment.study.study_uid)) for each in context.earlier]
    if context.prior is not None:
        known += [context.prior.segmentation, *context.prior.sources]
    return known


def _anonymous_set(
    spec: JobSpec, made: ObjectSet, profile: ProfileSection, timings: Timings
) -> tuple[ObjectSet, dict[str, int]]:
    """Anonymous copies in the place of a set's objects, and of the images where the profile wants them."""
    name = made.profile
    if not spec.anonymisation_key:
        raise NoAnonymisationKey(f"profile {name}: there is no secret to make names with")
    folder = spec.output_dir / f"{name}-anonymous"
    folder.mkdir()
    files = [(each.role, each.path) for each in made.written]
    files += [(IMAGE_ROLE, path) for path in spec.files] if profile.images else []
    with timings.step("anonymise"):
        export = export_anonymous(Anonymiser(bytes.fromhex(spec.anonymisation_key)), files, folder)
    copies = [WrittenObject(profile=name, **asdict(file)) for file in export.files]
    return replace(made, written=copies), dict(export.left_out)


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
    parameters = work_parameters(spec)
    if earlier := assessment.result.evidence.get(EARLIER_IMAGES):
        # What was looked at beside the study's own images decides about the result, too.
        parameters["earlier"] = str(earlier)
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


def _where(error: BaseException) -> str:
    """Module and line at which an error arose."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "an unknown place"
