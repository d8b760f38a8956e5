"""Status objects: that the node ran and found nothing, did not run, or takes an earlier result back. Never silence.

Each says so twice: in words for the reader and as a code for the worklist that filters by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage

from dicom_sr import codes
from dicom_sr.composite import Place, compose
from dicom_sr.rendering import RenderContext
from dicom_sr.source_header import SourceHeader
from dicom_sr.structured_report import add_document
from dicom_sr.text_report import narrative, paragraphs
from models.errors import InsufficientCoverage
from models.remedies import remedy_in
from models.results import Draft, ModelReference, Outcome, RefusalReason, StudyResult

ROLE = "status"
SUPERSEDED_ROLE = f"{ROLE}-superseded"
NOT_ASSESSED = "AI: not assessed"
DID_NOT_RUN = "AI: did not run"
NOTHING_FOUND = "AI: nothing found"
SUPERSEDED = "AI: earlier result superseded"

_SUITABILITY = InsufficientCoverage.code.split("-", 1)[0]
UNSTATED = RefusalReason("", "No reason was recorded.", "Look into the node's log.")


@dataclass(frozen=True, slots=True)
class _Words:
    """Fixed sentences in one language."""

    not_assessed_headline: str
    not_assessed: str
    reason: str
    remedy: str
    nothing_found_headline: str
    superseded_headline: str
    superseded: str
    change: str
    objects: str


_WORDS = {
    "en": _Words(
        "AI STATUS - NOT A REPORT. The AI made no statement about this study.",
        "Not assessed by the AI: nothing is stated about presence or absence of a finding.",
        "Reason",
        "What to do",
        "AI STATUS - NOT A REPORT. The AI ran and marked nothing; not reviewed by a physician.",
        "AI STATUS - NOT A REPORT. An earlier AI result of this study is no longer valid.",
        "Do not use the earlier AI result of this study.",
        "What changed",
        "Objects that are no longer valid",
    ),
    "ja": _Words(
        "AI STATUS - NOT A REPORT（AIの状態通知であり、報告書ではありません）。AIはこの検査について何も述べていません。",
        "AIによる評価は行われていません。所見の有無については何も述べていません。",
        "理由",
        "対処",
        "AI STATUS - NOT A REPORT（AIの状態通知であり、報告書ではありません）。検出なし（医師未確認）。",
        "AI STATUS - NOT A REPORT（AIの状態通知であり、報告書ではありません）。この検査の以前のAI結果は無効です。",
        "この検査の以前のAI結果は使用しないでください。",
        "変更点",
        "無効になったオブジェクト",
    ),
}


def role_of(position: int, language: str, *, role: str = ROLE) -> str:
    """Role of a status object: ``status`` for the first language asked for, ``status-ja`` … for further ones."""
    return role if position == 0 else f"{role}-{language}"


def description_of(reason: RefusalReason | None) -> str:
    """Series Description: images that were looked at and found unsuitable differ from a run that did not happen."""
    is_unsuitable = reason is not None and reason.code.startswith(f"{_SUITABILITY}-")
    return NOT_ASSESSED if is_unsuitable else DID_NOT_RUN


def render_status(
    result: StudyResult,
    language: str,
    draft: Draft | None,
    header: SourceHeader,
    context: RenderContext,
    *,
    position: int,
) -> Dataset:
    """Status object of a result that found nothing or assessed nothing, in one language.

    Parameters
    ----------
    draft : Draft or None
        Text of the composer in that language; fixed sentences stand in where there is none.
    position : int
        Position among the languages, from 0.

    Raises
    ------
    ValueError
        Something was found: that is no status.

    Notes
    -----
    The reason's code and words always stand in the text, whatever the draft says.
    """
    if result.outcome is Outcome.FOUND:
        raise ValueError("what was found goes into reports, not into a status")
    is_negative = result.outcome is Outcome.NOTHING_FOUND
    words = _WORDS.get(language, _WORDS["en"])
    headline = words.nothing_found_headline if is_negative else words.not_assessed_headline
    said = draft.findings if draft is not None else ""
    lines = [headline, said, *(draft.notes if draft is not None and is_negative else ())]
    verdict = draft.impression if draft is not None else ""
    if is_negative:
        verdict = verdict or f"{result.finding.meaning}: {codes.ABSENT.meaning.lower()}."
    else:
        reason = result.refusal or UNSTATED
        lines += reason_lines(reason, said, language)
        verdict = verdict or words.not_assessed
    return document(
        [result.model],
        header,
        context,
        role=role_of(position, language),
        place=Place(ROLE, 3, position + 1, NOTHING_FOUND if is_negative else description_of(result.refusal)),
        language=language,
        findings=[*lines, model_line(result)],
        impression=[headline, verdict],
        conclusion=codes.RAN_WITHOUT_FINDINGS if is_negative else codes.DID_NOT_RUN,
    )


def render_superseded(
    result: StudyResult,
    language: str,
    header: SourceHeader,
    context: RenderContext,
    *,
    position: int,
    change: str,
    replaced: Sequence[str] = (),
) -> Dataset:
    """Status object that takes an earlier result back, for destinations that do not act on a rejection Key Object.

    Parameters
    ----------
    result : StudyResult
        The result that stands now; its model is named.
    position : int
        Position among the languages, from 0.
    change : str
        What changed, in ``language``: ``"12 → 14 mL, FLAIR added, replaces 03:12"``.
    replaced : sequence of str
        One line for each object that is no longer valid: what it is, and its SOP Instance UID.
    """
    words = _WORDS.get(language, _WORDS["en"])
    listed = [f"{words.objects}:", *replaced] if replaced else []
    return document(
        [result.model],
        header,
        context,
        role=role_of(position, language, role=SUPERSEDED_ROLE),
        place=Place(SUPERSEDED_ROLE, 5, position + 1, SUPERSEDED),
        language=language,
        findings=[words.superseded_headline, f"{words.change}: {change}", *listed, model_line(result)],
        impression=[words.superseded_headline, words.superseded, f"{words.change}: {change}"],
        conclusion=codes.REPLACED_REPORT,
    )


def reason_lines(reason: RefusalReason, said: str, language: str) -> list[str]:
    """Code, words and remedy of a reason, as far as ``said`` does not hold them already."""
    words, lines = _WORDS.get(language, _WORDS["en"]), []
    code = f" ({reason.code})" if reason.code else ""
    if reason.message not in said or reason.code not in said:
        lines.append(f"{words.reason}{code}: {reason.message}")
    remedy = remedy_in(reason, language)
    if remedy and remedy not in said:
        lines.append(f"{words.remedy}: {remedy}")
    return lines


def model_line(result: StudyResult) -> str:
    """What was looked for, and by which model exactly."""
    model = result.model
    return f"{result.title}. Model: {model.name}, version {model.version}, {model.digest[:12]}."


def document(
    models: Sequence[ModelReference],
    header: SourceHeader,
    context: RenderContext,
    *,
    role: str,
    place: Place,
    language: str,
    findings: Sequence[str],
    impression: Sequence[str],
    conclusion: codes.Code,
) -> Dataset:
    """A Basic Text SR with these lines, by these models, that says in code what the lines say in words."""
    made = compose(
        sop_class_uid=BasicTextSRStorage,
        modality="SR",
        role=role,
        place=place,
        header=header,
        context=context,
        models=tuple(models),
    )
    root = narrative(
        language=language,
        header=header,
        context=context,
        findings=paragraphs(findings),
        impression=paragraphs(impression),
        conclusions=(conclusion,),
    )
    add_document(made, root=root, header=header, known=())
    return made
