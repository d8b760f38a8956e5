"""`ainode process`: the node's own run over a folder, without node, network or database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node import routing
from node.archive.headers import InstanceHeader, read_header
from node.errors import ObjectRejected, UsageError
from node.identity import load_identity, offline_identity
from node.installed_models import chosen
from node.jobs.specification import JobSpec
from node.settings import ProfileSection, RuleSection, Settings
from node.site_secret import anonymisation_key

if TYPE_CHECKING:
    from models.progress import TextProgress

DEFAULT_MODEL = "infarct-adc-baseline"
DEFAULT_REPORT_MODEL = "stroke-impression-demo"


@dataclass
class StudyFiles:
    """The files of one study and their headers."""

    study_uid: str
    files: list[Path] = field(default_factory=list)
    headers: list[InstanceHeader] = field(default_factory=list)

    def facts(self, *, calling_ae_title: str = "", called_ae_title: str = "") -> list[routing.InstanceFacts]:
        """What routing sees of them."""
        return [
            routing.InstanceFacts(each.modality, calling_ae_title, called_ae_title, each.routing, each.series_uid)
            for each in self.headers
        ]

    def only(self, series: frozenset[str] | None) -> StudyFiles:
        """The files of some series; all of them for None."""
        kept = [
            (file, header)
            for file, header in zip(self.files, self.headers, strict=True)
            if series is None or header.series_uid in series
        ]
        return StudyFiles(self.study_uid, [file for file, _ in kept], [header for _, header in kept])


def studies_in(paths: Sequence[Path]) -> list[StudyFiles]:
    """Find DICOM files below paths, by study; what is not DICOM is passed over.

    Raises
    ------
    UsageError
        A path does not exist, or no DICOM file was found.
    """
    found: dict[str, StudyFiles] = {}
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist")
        for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
            try:
                header = read_header(file)
            except ObjectRejected:
                continue
            study = found.setdefault(header.study_uid, StudyFiles(header.study_uid))
            study.files.append(file.resolve())
            study.headers.append(header)
    if not found:
        raise UsageError(f"no DICOM file in {', '.join(map(str, paths))}")
    return [found[uid] for uid in sorted(found)]


def one_study(paths: Sequence[Path]) -> StudyFiles:
    """The study in paths.

    Raises
    ------
    UsageError
        There are several.
    """
    studies = studies_in(paths)
    if len(studies) > 1:
        raise UsageError(f"{len(studies)} studies were found; name the files of one")
    return studies[0]


def process_study(
    settings: Settings,
    paths: Sequence[Path],
    out: Path,
    *,
    model_id: str | None,
    profile: str | None,
    progress: TextProgress | None = None,
) -> dict[str, Any]:
    """Run a model over one study and write the objects.

    Parameters
    ----------
    settings : Settings
        Read from a file they give the node's identity, rules and profiles; the defaults give the offline identity.
    out : Path
        Made when absent. ``ROLE.dcm`` is written for each object, replacing older ones; ``ROLE-UID.dcm`` where several have
        one role, as the images of an anonymous export.
    model_id : str or None
        None takes the first rule that fires, and without rules the embedded default.
    profile : str or None
        None takes that of the rule's first destination.
    progress : TextProgress or None
        Who hears how far a text is.

    Returns
    -------
    dict
        ``outcome``, ``work_key``, ``objects`` (role, path, sop_instance_uid, digest, size), ``timings``, ``evidence`` and
        the summary of the typed result.

    Raises
    ------
    NodeError
        The model failed, or the files belong to two patients.
    """
    from models.registry import Registry
    from node.external.desk import ProgramDesk
    from node.jobs.execution import execute

    study = one_study(paths)
    rule, series = _rule(settings, study, model_id)
    study = study.only(series)
    name, section = _profile(settings, rule, profile)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".run-", dir=out) as folder:
        spec = _specification(settings, study, rule, {name: section}, Path(folder))
        registry = Registry(
            settings.models.folders, threads=settings.jobs.threads, programs=ProgramDesk(), progress=progress
        )
        bundle = execute(spec, chosen(registry, settings, *filter(None, (spec.model_id, spec.report_model))))
        objects = []
        for each in bundle.objects:
            named = [other for other in bundle.objects if other.role == each.role]
            target = out / (f"{each.role}.dcm" if len(named) == 1 else each.path.name)
            shutil.move(each.path, target)
            objects.append(each.model_dump(mode="json") | {"path": str(target)})
    return {
        "outcome": bundle.outcome,
        "study_uid": study.study_uid,
        "rule": rule.name if rule.name != _NO_RULE else None,
        "profile": name,
        "work_key": bundle.work_key,
        "objects": objects,
        "timings": bundle.timings,
        "evidence": bundle.evidence,
        **bundle.summary,
    }


_NO_RULE = "none"


def _specification(
    settings: Settings, study: StudyFiles, rule: RuleSection, profiles: dict[str, ProfileSection], folder: Path
) -> JobSpec:
    """The job that the node would make of it, as its first run."""
    return JobSpec(
        job_id=0,
        study_uid=study.study_uid,
        rule=rule.name,
        model_id=rule.model,
        report_model=rule.report_model,
        contradictions=rule.contradictions,
        question=rule.question,
        model_folders=settings.models.folders,
        parameters=rule.parameters,
        files=study.files,
        profiles=profiles,
        languages=[settings.node.language],
        identity=load_identity(settings) if settings.source else offline_identity(),
        output_dir=folder,
        deadline_seconds=rule.deadline_seconds or settings.jobs.deadline_seconds,
        threads=settings.jobs.threads,
        external=settings.external,
        anonymisation_key=anonymisation_key(settings, profiles.values()) if settings.source else "",
    )


def _rule(settings: Settings, study: StudyFiles, model_id: str | None) -> tuple[RuleSection, frozenset[str] | None]:
    """The rule that decides about model, parameters and texts, and the series it takes."""
    verdicts = routing.match(settings.rule, study.facts(called_ae_title=settings.node.ae_title))
    fitting = [each for each in verdicts if each.matched and model_id in (None, each.rule.model)]
    if fitting:
        return fitting[0].rule, fitting[0].series
    if model_id is None and settings.rule:
        why = "; ".join(f"{each.rule.name}: {each.explanation[-1]}" for each in verdicts)
        raise UsageError(f"no rule fires for this study ({why}); name a model with --model")
    report_model = DEFAULT_REPORT_MODEL if model_id in (None, DEFAULT_MODEL) else None
    return RuleSection(name=_NO_RULE, model=model_id or DEFAULT_MODEL, report_model=report_model), None


def _profile(settings: Settings, rule: RuleSection, name: str | None) -> tuple[str, ProfileSection]:
    if name is None and rule.destinations:
        destination = rule.destinations[0]
        return settings.destination[destination].profile, settings.profile_of(destination)
    if name is not None and name != "default" and name not in settings.profile:
        raise UsageError(f"there is no [profile.{name}]")
    # Without a configuration nothing is sent to anybody: whoever runs this by hand gets everything there is.
    everything = {} if settings.source else {"text_documents": "shown_as_draft", "maximum_series": 100}
    section = settings.profile.get(name or "default", ProfileSection.model_validate(everything))
    return name or "default", section
