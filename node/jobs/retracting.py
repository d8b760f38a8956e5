"""The note that tells a destination that objects it has were replaced. Headers are read, no model runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from dicom_sr.check import check
from dicom_sr.rendering import EarlierObject, RenderContext
from dicom_sr.retraction import render_retraction
from dicom_sr.source_header import normalise
from dicom_sr.uids import work_key
from dicom_sr.versions import header_of
from dicom_sr.write import write_objects
from node.jobs.assessment import not_run
from node.jobs.specification import Failure, JobSpec, ResultBundle, Retraction, WrittenObject
from node.jobs.timings import Timings
from node.jobs.work_parameters import work_parameters

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
    study, result = assessment.study, assessment.result
    objects = [EarlierObject(**each.model_dump()) for each in retraction.objects]
    header, written, key = normalise(study, None), [], ""
    for name, profile in sorted(spec.profiles.items()):
        language = (profile.languages or spec.languages)[0]
        key = work_key(
            digests=study.digests,
            identity=spec.identity,
            model=result.model,
            parameters=work_parameters(spec),
            report_model=None,
            languages=[language],
            profile=profile.as_profile(name).content,
            run=spec.run,
        )
        context = RenderContext(spec.identity, key, profile.as_profile(name), spec.run, None)
        with timings.step("render"):
            note = render_retraction(
                objects,
                header,
                context,
                result,
                as_rejection=profile.superseded == "rejection",
                moment=retraction.moment,
                run=retraction.run,
                language=language,
            )
        with timings.step("check"):
            check([note], study, result, None, known=[header_of(each, str(study.study_uid)) for each in objects])
        folder = spec.output_dir / name
        folder.mkdir()
        with timings.step("write"):
            written += [WrittenObject(profile=name, **asdict(file)) for file in write_objects([note], folder)]
    rounded = {step: round(seconds, 4) for step, seconds in timings.seconds.items()}
    return ResultBundle(outcome="retracted", work_key=key, objects=written, timings=rounded)
