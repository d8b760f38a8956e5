"""Draft reports as text: Basic Text SR after TID 2000 (PS3.16), one document for each language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from unicodedata import category

from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage

from dicom_sr import codes
from dicom_sr.composite import Place, compose
from dicom_sr.key_images import key_frames
from dicom_sr.provenance import observer
from dicom_sr.rendering import RenderContext
from dicom_sr.source_header import SourceHeader
from dicom_sr.structured_report import add_document
from models.results import Draft, ModelReference, StudyResult

if TYPE_CHECKING:
    from dicom_sr.series import SeriesVolume, SourceFrame

BANNER = "AI DRAFT - NOT REVIEWED BY A PHYSICIAN"
"""First words of every text: many viewers hide the flags that say the same."""

ILLUSTRATED = 5
"""Key images for the largest regions; more would hide the important ones."""

_BANNERS = {"ja": f"{BANNER}（AIによる下書き・医師未確認）"}
_NEW_LINE = "\r\n"


def role_of(language: str) -> str:
    """Role of the draft in ``language``."""
    return f"text-{language}"


def render_text(
    result: StudyResult,
    draft: Draft,
    header: SourceHeader,
    source: SeriesVolume | None,
    context: RenderContext,
    *,
    instance: int,
    known: Sequence[Dataset],
) -> Dataset:
    """Draft report in one language.

    Parameters
    ----------
    instance : int
        Position among the drafts, from 1; they share a series.
    known : sequence of Dataset
        Source headers the report may refer to.

    Notes
    -----
    A title of the destination's own becomes Series Description and the line below the warning; the coded document title
    stays what validators know.
    """
    title = context.profile.text_title
    banner = _BANNERS.get(draft.language, BANNER)
    author = () if draft.author is None else (draft.author,)
    made = compose(
        sop_class_uid=BasicTextSRStorage,
        modality="SR",
        role=role_of(draft.language),
        place=Place("text", 2, instance, title or "AI: draft report, not reviewed"),
        header=header,
        context=context,
        models=(result.model, *author),
    )
    said = " ".join(draft.notes)
    lines = [_model_line(model) for model in (result.model, *author) if model.digest[:12] not in said]
    root = narrative(
        language=draft.language,
        header=header,
        context=context,
        findings=paragraphs([banner, title, draft.findings, *draft.notes, *lines]),
        impression=paragraphs([banner, draft.impression]),
        illustrations=_illustrations(result, draft, source),
    )
    add_document(made, root=root, header=header, known=known)
    return made


def _illustrations(result: StudyResult, draft: Draft, source: SeriesVolume | None) -> list[SourceFrame]:
    """Key images of the findings; for a text without findings of its own, the images its author was shown."""
    if source is None:
        return []
    found = key_frames(result, source, ILLUSTRATED)
    return found or [source.frames[at] for at in draft.looked_at if at < len(source.frames)]


def _model_line(model: ModelReference) -> str:
    return f"Model: {model.name}, version {model.version}, weights digest (SHA-256) {model.digest[:12]}."


def paragraphs(lines: Sequence[str]) -> str:
    """Lines as UT wants them: CR LF between, none empty, no control characters."""
    split = (part.rstrip() for line in lines for part in line.splitlines())
    return _NEW_LINE.join("".join(c for c in part if category(c)[0] != "C") for part in split if part.strip())


def narrative(
    *,
    language: str,
    header: SourceHeader,
    context: RenderContext,
    findings: str,
    impression: str,
    illustrations: Sequence[SourceFrame] = (),
    conclusions: Sequence[codes.Code] = (),
) -> Dataset:
    """Root container of TID 2000 with a findings and an impressions section.

    ``conclusions`` say in code what the findings say in words. In the flat dialect both texts stand under the root itself,
    without sections and images: TID 2000 is extensible, and some report systems read nothing deeper.

    The title is (18748-4 LN): with one that is not in a validator's edition of CID 7000 nothing would be validated.
    """
    modifier, contains = RelationshipTypeValues.HAS_CONCEPT_MOD, RelationshipTypeValues.CONTAINS
    root = ContainerContentItem(name=codes.DIAGNOSTIC_IMAGING_REPORT, is_content_continuous=False, template_id="2000")
    content = ContentSequence(
        [
            CodeContentItem(codes.LANGUAGE, codes.language(language), modifier),
            CodeContentItem(codes.PROCEDURE_REPORTED, codes.procedure_reported(header.modality), modifier),
        ]
    )
    content.extend(observer(context.identity))
    said = TextContentItem(codes.FINDING, findings, contains)
    concluded = TextContentItem(codes.IMPRESSION, impression, contains)
    coded = [CodeContentItem(codes.FINDING, code, contains) for code in conclusions]
    if context.profile.text_dialect == "flat":
        content.extend([said, *coded, concluded])
    else:
        images = [_illustration(frame) for frame in illustrations]
        content.append(_section(codes.FINDINGS_HEADING, [said, *coded, *images]))
        content.append(_section(codes.IMPRESSIONS_HEADING, [concluded]))
    root.ContentSequence = content
    return root


def _illustration(frame: SourceFrame) -> ImageContentItem:
    return ImageContentItem(
        codes.BEST_ILLUSTRATION,
        frame.sop_class_uid,
        frame.sop_instance_uid,
        None if frame.frame_number is None else [frame.frame_number],
        relationship_type=RelationshipTypeValues.CONTAINS,
    )


def _section(heading: codes.Code, items: Sequence[ContentItem]) -> ContainerContentItem:
    section = ContainerContentItem(
        name=heading, is_content_continuous=False, relationship_type=RelationshipTypeValues.CONTAINS
    )
    section.ContentSequence = ContentSequence(items)
    return section
