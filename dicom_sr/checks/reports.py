"""Reports are drafts, follow their template, and their words are the result's."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage

from dicom_sr.checks.characters import carried
from dicom_sr.checks.combined import combined_problems, expected_conclusion
from dicom_sr.checks.measurements import MEASUREMENT_CLASSES
from dicom_sr.checks.subject import Subject, concept, walk
from dicom_sr.rendering import COMBINED, kind_of
from models.results import Outcome

_FLAGS = (("VerificationFlag", "UNVERIFIED"), ("PreliminaryFlag", "PRELIMINARY"), ("CompletionFlag", "COMPLETE"))
_ROOTS = {"1500": ("126000", MEASUREMENT_CLASSES), "2000": ("18748-4", frozenset({BasicTextSRStorage}))}
_BANNER = "AI DRAFT - NOT REVIEWED BY A PHYSICIAN"
_STATUS_BANNER = "AI STATUS - NOT A REPORT"
_LANGUAGE, _OBSERVER_UID = "121049", "121012"
_FINDING, _IMPRESSION = "121071", "121073"
_RAN, _DID_NOT_RUN, _SUPERSEDED, _SUPERSEDED_ROLE = "111241", "111245", "121360", "status-superseded"


def check_reports(subject: Subject) -> Iterator[str]:
    """Flags, root template, language, observer, request; then the words."""
    for role, report in subject.reports:
        yield from (f"{role}: {keyword} is not {value}" for keyword, value in _FLAGS if report.get(keyword) != value)
        for keyword in ("VerifyingObserverSequence", "VerificationDateTime"):
            if keyword in report:
                yield f"{role}: {keyword} claims a physician's review"
        if not report.get("ReferencedRequestSequence"):
            yield f"{role}: no Referenced Request Sequence"
        template = _template(report)
        title, sop_classes = _ROOTS.get(template, ("", frozenset()))
        if concept(report) != title or report.get("SOPClassUID") not in sop_classes:
            yield f"{role}: title, SOP class and template {template or '(none)'} do not belong together"
        names = {concept(entry) for entry in report.get("ContentSequence", [])}
        for needed, what in ((_LANGUAGE, "language"), (_OBSERVER_UID, "device observer UID")):
            if needed not in names:
                yield f"{role}: content names no {what}"
        if template != "1500":
            yield from _text_problems(role, report, subject)


def _template(entry: Dataset) -> str:
    sequence = entry.get("ContentTemplateSequence")
    return str(sequence[0].get("TemplateIdentifier", "")) if sequence else ""


def _letters(text: str) -> str:
    """Without white space and control characters, which line endings and viewers change."""
    return "".join(c for c in text if c.isprintable() and not c.isspace())


def _text_problems(role: str, report: Dataset, subject: Subject) -> Iterator[str]:
    texts = [
        str(entry.get("TextValue", ""))
        for entry in walk(report)
        if concept(entry) in (_FINDING, _IMPRESSION) and entry.get("ValueType") == "TEXT"
    ]
    is_status = kind_of(role) == "status"
    banner = _STATUS_BANNER if is_status else _BANNER
    if len(texts) != 2 or not all(text.startswith(banner) for text in texts):
        yield f"{role}: a text does not begin with the warning"
    if subject.profile.text_dialect == "flat" and any(
        "ContentSequence" in c for c in report.get("ContentSequence", [])
    ):
        yield f"{role}: the flat dialect has one level"
    language = next((c for c in report.get("ContentSequence", []) if concept(c) == _LANGUAGE), Dataset())
    spoken = concept(language, "ConceptCodeSequence")
    if role.startswith(COMBINED):
        yield from combined_problems(role, texts, spoken, subject)
        yield from _conclusion_problems(role, report, expected_conclusion(subject.accounts))
        return
    everything = "\n".join(texts)
    model = subject.result.model
    if model.digest[:12] not in everything or model.version not in everything:
        yield f"{role}: the text does not name the model"
    if role.startswith(_SUPERSEDED_ROLE):
        yield from _conclusion_problems(role, report, _SUPERSEDED)
        return
    draft = next((d for d in subject.result.drafts if d.language == spoken), None)
    if draft is not None:
        findings, impression = (_letters(carried(part, subject.profile)) for part in (draft.findings, draft.impression))
        if findings not in _letters(everything) or impression not in _letters(texts[-1]):
            yield f"{role}: the text is not the draft's in language {spoken}"
    elif not is_status:
        yield f"{role}: no draft is in language {spoken}"
    if is_status:
        yield from _status_problems(role, report, everything, subject)


def _status_problems(role: str, report: Dataset, everything: str, subject: Subject) -> Iterator[str]:
    refusal = subject.result.refusal
    if subject.result.outcome is Outcome.NOTHING_FOUND:
        yield from _conclusion_problems(role, report, _RAN)
        return
    if refusal is not None and refusal.code not in everything:
        yield f"{role}: the reason code is not in the text"
    yield from _conclusion_problems(role, report, _DID_NOT_RUN)


def _conclusion_problems(role: str, report: Dataset, expected: str) -> Iterator[str]:
    stated = [
        concept(entry, "ConceptCodeSequence")
        for entry in walk(report)
        if concept(entry) == _FINDING and entry.get("ValueType") == "CODE"
    ]
    if stated != [expected]:
        yield f"{role}: its code does not say what happened"
