"""The combined status of a study: what its runs came to, as one object. Headers are read, no model runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from dicom_sr.character_set import fit
from dicom_sr.check import check
from dicom_sr.combined_status import Account, render_combined
from dicom_sr.errors import CharacterUnencodable
from dicom_sr.rendering import EarlierObject, RenderContext
from dicom_sr.requested import ordered_requests
from dicom_sr.series import LoadedStudy, load_study
from dicom_sr.source_header import normalise
from dicom_sr.uids import work_key
from dicom_sr.versions import header_of
from dicom_sr.write import write_objects
from models.composer import compose
from models.errors import ModelError, StoredResultDamaged
from models.results import CodedTerm, ModelReference, Outcome, RefusalReason, StudyResult
from node.jobs.assessment import replaced
from node.jobs.specification import JobSpec, ResultBundle, RunAccount, WrittenObject
from node.jobs.stored_files import read_stored
from node.jobs.timings import Timings
from node.jobs.work_parameters import accounts_digest, work_parameters
from node.settings import ProfileSection

if TYPE_CHECKING:
    from models.registry import Registry

_LOG = logging.getLogger(__name__)

OUTCOME = "combined"
_FINDING = CodedTerm("404684003", "SCT", "Clinical finding")
_SITE = CodedTerm("123037004", "SCT", "Body structure")


def combine(spec: JobSpec, told: Sequence[RunAccount], registry: Registry, timings: Timings) -> ResultBundle:
    """Render, check and write the combined status for each profile.

    Raises
    ------
    MixedPatients
        The images belong to two patients.
    ResultError
        The status failed its check.
    """
    with timings.step("load"):
        study = load_study(spec.files, pixels=False, corrected=spec.corrected)
        results = [_result(each, registry) for each in told]
    written: list[WrittenObject] = []
    key, verdicts = "", {}
    for name, profile in sorted(spec.profiles.items()):
        languages = profile.languages or spec.languages
        accounts = [_account(each, result, languages) for each, result in zip(told, results, strict=True)]
        try:
            key, made, parts = _written(spec, accounts, study, name, profile, timings)
        except CharacterUnencodable:
            # As with any status: better in Unicode than not at all.
            unicode = profile.model_copy(update={"character_set": "utf-8"})
            key, made, parts = _written(spec, accounts, study, name, unicode, timings)
        written += made
        verdicts[name] = {
            "passed": True,
            "objects": len(made),
            "parts": parts,
            "release": spec.identity.software_version,
        }
    return ResultBundle(
        outcome=OUTCOME,
        work_key=key,
        summary={
            "accounts": [{"job": each.job_id, "rule": each.rule, "outcome": _word(each)} for each in told],
            "accounts_digest": accounts_digest(told),
        },
        objects=written,
        checks=verdicts,
        timings={step: round(seconds, 4) for step, seconds in timings.seconds.items()},
    )


def _written(
    spec: JobSpec,
    accounts: Sequence[Account],
    study: LoadedStudy,
    name: str,
    profile: ProfileSection,
    timings: Timings,
) -> tuple[str, list[WrittenObject], int]:
    """Work key, objects of one profile, and how many parts of the check they passed."""
    languages = profile.languages or spec.languages
    lead = accounts[0].result
    earlier = spec.predecessor.objects.get(name, []) if spec.predecessor is not None else []
    key = work_key(
        digests=study.digests,
        identity=spec.identity,
        model=lead.model,
        parameters=work_parameters(spec),
        report_model=None,
        languages=languages,
        profile=profile.as_profile(name).content,
        run=spec.run,
    )
    context = RenderContext(
        identity=spec.identity,
        key=key,
        profile=profile.as_profile(name),
        run=spec.run,
        report_model=None,
        earlier=tuple(EarlierObject(**each.model_dump()) for each in earlier),
        procedures=tuple(spec.procedures),
    )
    header = normalise(study, None)
    if context.procedures:
        header = replace(header, requests=ordered_requests(header, context.procedures))
    with timings.step("render"):
        made = render_combined(accounts, languages, header, context, replaced(spec.predecessor))
        for each in made:
            fit(each.dataset, context.profile)
    with timings.step("check"):
        known = [header_of(each, str(study.study_uid)) for each in context.earlier]
        parts = check(made, study, lead, None, profile=context.profile, known=known, accounts=accounts)
    folder = spec.output_dir / name
    folder.mkdir()
    with timings.step("write"):
        return key, [WrittenObject(profile=name, **asdict(file)) for file in write_objects(made, folder)], parts


def _account(told: RunAccount, result: StudyResult, languages: Sequence[str]) -> Account:
    """With a draft in each language, where the status has to speak for the run."""
    if told.is_open or result.outcome is Outcome.FOUND:
        return Account(replace(result, drafts=()), told.is_open)
    by_language = {each.language: each for each in result.drafts}
    drafts = tuple(by_language.get(language) or compose(result, language) for language in languages)
    return Account(replace(result, drafts=drafts))


def _result(told: RunAccount, registry: Registry) -> StudyResult:
    """What a run says, as much of it as a status needs."""
    if told.failure is not None:
        reason = told.failure
        refusal = RefusalReason(reason.code, reason.message, reason.remedy, reason.detail)
        return replace(_named(told, registry), refusal=refusal)
    if told.outcome is None:
        return _named(told, registry)
    if told.stored is not None:
        try:
            return read_stored(told.stored).result
        except StoredResultDamaged as error:
            # Its summary says enough for a status.
            _LOG.warning("a stored result cannot be read, the status speaks from its summary: %s", error)
    return _summarised(told)


def _named(told: RunAccount, registry: Registry) -> StudyResult:
    """A run without a result: what its model is called is all there is."""
    try:
        model = registry.get(told.model_id)
    except ModelError:
        reference = ModelReference(told.model_id, "unknown", told.model_id, "unknown", "0" * 64)
        return StudyResult(Outcome.NOT_ASSESSED, f"Analysis by {told.model_id}", _FINDING, _SITE, reference)
    card = model.card
    return StudyResult(Outcome.NOT_ASSESSED, card.title, card.finding, card.site, model.reference({}))


def _summarised(told: RunAccount) -> StudyResult:
    said = told.summary
    refusal: dict[str, Any] | None = said.get("refusal")
    model_id = said.get("model") or told.model_id
    return StudyResult(
        outcome=Outcome(told.outcome or Outcome.NOT_ASSESSED),
        title=said.get("title") or f"Analysis by {model_id}",
        finding=CodedTerm(**said["finding"]) if said.get("finding") else _FINDING,
        site=CodedTerm(**said["site"]) if said.get("site") else _SITE,
        model=ModelReference(
            model_id,
            said.get("model_version") or "unknown",
            model_id,
            "unknown",
            said.get("model_digest") or "0" * 64,
        ),
        total_ml=said.get("total_ml"),
        detection_limit_ml=said.get("detection_limit_ml"),
        limitations=tuple(said.get("limitations", ())),
        refusal=RefusalReason(refusal["code"], refusal["message"], "") if refusal else None,
    )


def _word(told: RunAccount) -> str:
    if told.is_open:
        return "open"
    return told.failure.code if told.failure is not None else told.outcome or Outcome.NOT_ASSESSED.value
