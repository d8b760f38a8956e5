"""The note that tells a destination that objects it has were replaced. Headers are read, no model runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from dicom_sr.character_set import fit
from dicom_sr.check import check
from dicom_sr.errors import CharacterUnencodable
from dicom_sr.rendering import EarlierObject, RenderContext, RenderedObject
from dicom_sr.retraction import Taken, render_retractions
from dicom_sr.source_header import normalise
from dicom_sr.uids import work_key
from dicom_sr.versions import header_of
from dicom_sr.write import write_objects
from models.results import Outcome
from node.jobs.assessment import Assessment, not_run, replaced
from node.jobs.specification import Failure, JobSpec, ResultBundle, Retraction, WrittenObject
from node.jobs.timings import Timings
from node.jobs.work_parameters import work_parameters
from node.settings import ProfileSection

if TYPE_CHECKING:
    from models.registry import Registry

_REASON = Failure(code="", message="superseded by a later result")


def retract(spec: JobSpec, retraction: Retraction, registry: Registry, timings: Timings) -> ResultBundle:
    """Render, check and write the note for each profile.

    Raises
    ------
    ResultError
        The note failed its check.
    """
    assessment = not_run(spec, registry, _REASON, timings)
    taken, written, key = _taken(retraction), [], ""
    for name, profile in sorted(spec.profiles.items()):
        if profile.anonymous:
            continue  # filed by a release that did not know better: a note names the patient
        try:
            key, notes = _notes(spec, taken, assessment, name, profile, timings)
        except CharacterUnencodable:
            # As with any status: better in Unicode than not at all.
            unicode = profile.model_copy(update={"character_set": "utf-8"})
            key, notes = _notes(spec, taken, assessment, name, unicode, timings)
        folder = spec.output_dir / name
        folder.mkdir()
        with timings.step("write"):
            written += [WrittenObject(profile=name, **asdict(file)) for file in write_objects(notes, folder)]
    rounded = {step: round(seconds, 4) for step, seconds in timings.seconds.items()}
    return ResultBundle(outcome="retracted", work_key=key, objects=written, timings=rounded)


def _notes(
    spec: JobSpec, taken: Taken, assessment: Assessment, name: str, profile: ProfileSection, timings: Timings
) -> tuple[str, list[RenderedObject]]:
    """Work key and checked notes of one profile."""
    study, result = assessment.study, assessment.result
    languages = profile.languages or spec.languages
    wanted = profile.as_profile(name)
    key = work_key(
        digests=study.digests,
        identity=spec.identity,
        model=result.model,
        parameters=work_parameters(spec),
        report_model=None,
        languages=languages,
        profile=wanted.content,
        run=spec.run,
    )
    with timings.step("render"):
        notes = render_retractions(
            taken,
            normalise(study, None),
            RenderContext(spec.identity, key, wanted, spec.run, None),
            result,
            as_rejection=profile.superseded == "rejection",
            languages=languages,
        )
        for each in notes:
            fit(each.dataset, wanted)
    with timings.step("check"):
        known = [header_of(each, str(study.study_uid)) for each in taken.objects]
        check(notes, study, result, None, profile=wanted, known=known)
    return key, notes


def _taken(retraction: Retraction) -> Taken:
    return Taken(
        objects=[EarlierObject(**each.model_dump()) for each in retraction.objects],
        moment=retraction.moment,
        run=retraction.run,
        earlier=replaced(retraction.earlier),
        outcome=None if retraction.outcome is None else Outcome(retraction.outcome),
        total_ml=retraction.total_ml,
        is_same_run=retraction.is_same_run,
    )
