"""Status objects: that the node did not analyse a study, why, and what to do. Never silence."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage

from dicom_sr.composite import Place, compose
from dicom_sr.rendering import RenderContext
from dicom_sr.source_header import SourceHeader
from dicom_sr.structured_report import add_document
from dicom_sr.text_report import narrative, paragraphs
from models.errors import InsufficientCoverage
from models.results import Draft, RefusalReason, StudyResult

ROLE = "status"
NOT_ASSESSED = "AI: not assessed"
DID_NOT_RUN = "AI: did not run"

_SUITABILITY = InsufficientCoverage.code.split("-", 1)[0]
_UNSTATED = RefusalReason("", "No reason was recorded.", "Look into the node's log.")
_HEADLINES = {
    "en": (
        "AI STATUS - NOT A REPORT. The AI made no statement about this study.",
        "Not assessed by the AI: nothing is stated about presence or absence of a finding.",
        "Reason",
        "What to do",
    ),
    "ja": (
        "AI STATUS - NOT A REPORT（AIの状態通知であり、報告書ではありません）。AIはこの検査について何も述べていません。",
        "AIによる評価は行われていません。所見の有無については何も述べていません。",
        "理由",
        "対処",
    ),
}


def role_of(position: int, language: str) -> str:
    """Role of a status object: ``status`` for the first language asked for, ``status-ja`` … for further ones."""
    return ROLE if position == 0 else f"{ROLE}-{language}"


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
    """Status object in one language.

    Parameters
    ----------
    draft : Draft or None
        Text of the composer in that language; fixed sentences stand in where there is none.
    position : int
        Position among the languages, from 0.

    Notes
    -----
    The reason's code and words always stand in the text, whatever the draft says.
    """
    reason = result.refusal or _UNSTATED
    made = compose(
        sop_class_uid=BasicTextSRStorage,
        modality="SR",
        role=role_of(position, language),
        place=Place(ROLE, 3, position + 1, description_of(result.refusal)),
        header=header,
        context=context,
        models=(result.model,),
    )
    headline, verdict, why, remedy = _HEADLINES.get(language, _HEADLINES["en"])
    words = draft.findings if draft is not None else ""
    lines = [headline, words]
    code = f" ({reason.code})" if reason.code else ""
    if reason.message not in words or reason.code not in words:
        lines.append(f"{why}{code}: {reason.message}")
    if reason.remedy and reason.remedy not in words:
        lines.append(f"{remedy}: {reason.remedy}")
    model = result.model
    lines.append(f"{result.title}. Model: {model.name}, version {model.version}, {model.digest[:12]}.")
    root = narrative(
        language=language,
        header=header,
        context=context,
        findings=paragraphs(lines),
        impression=paragraphs([headline, (draft.impression if draft is not None else "") or verdict]),
    )
    add_document(made, root=root, header=header, known=())
    return made
