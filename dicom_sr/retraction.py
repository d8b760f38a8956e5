"""Notes that tell a destination that objects it has were replaced: a rejection (IHE IOCM), or a status in words."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.uid import BasicTextSRStorage

from dicom_sr import codes
from dicom_sr.composite import Place, compose
from dicom_sr.key_objects import KeyObject, render_key_objects
from dicom_sr.rendering import REJECTION, SUPERSEDED, EarlierObject, RenderContext, RenderedObject
from dicom_sr.source_header import SourceHeader
from dicom_sr.structured_report import add_document
from dicom_sr.text_report import narrative, paragraphs
from models.results import ModelReference

_DESCRIPTION = "AI: superseded results"
_WORDS = {
    "en": (
        "AI STATUS - NOT A REPORT. An earlier AI result on this study is superseded.",
        "The AI result of {moment} (run {run}) is superseded by a later one. Do not use it any more.",
        "Superseded objects",
    ),
    "ja": (
        "AI STATUS - NOT A REPORT（AIの状態通知であり、報告書ではありません）。この検査の以前のAI結果は無効です。",
        "{moment}のAI結果（実行{run}回目）は、後の結果に置き換えられました。今後は使用しないでください。",
        "無効となったオブジェクト",
    ),
}


def render_retraction(
    objects: Sequence[EarlierObject],
    header: SourceHeader,
    context: RenderContext,
    model: ModelReference,
    *,
    as_rejection: bool,
    moment: str,
    run: int,
    language: str,
) -> RenderedObject:
    """A note that ``objects`` are superseded.

    Parameters
    ----------
    objects : sequence of EarlierObject
        What the destination has, or may have. At least one.
    as_rejection : bool
        A Key Object Selection "Rejected for Quality Reasons" (IHE RAD TF-3 IOCM), upon which an archive hides them; else
        a text for people.
    moment, run
        When the earlier result was made (site's wall clock), and its number.
    """
    lead, told, heading = (line.format(moment=moment, run=run) for line in _WORDS.get(language, _WORDS["en"]))
    if as_rejection:
        made = render_key_objects(
            [
                KeyObject(each.sop_class_uid, each.sop_instance_uid, each.series_uid, header.study_uid)
                for each in objects
            ],
            header,
            context,
            title=codes.REJECTED_FOR_QUALITY_REASONS,
            note=told,
            place=Place(REJECTION, 5, 1, _DESCRIPTION),
            models=(model,),
            role=REJECTION,
            language=language,
        )
        return RenderedObject(REJECTION, made)
    made = compose(
        sop_class_uid=BasicTextSRStorage,
        modality="SR",
        role=SUPERSEDED,
        place=Place(SUPERSEDED, 5, 1, _DESCRIPTION),
        header=header,
        context=context,
        models=(model,),
    )
    names = [f"{each.role}: {each.sop_instance_uid}" for each in objects]
    line = f"Model: {model.name}, version {model.version}, {model.digest[:12]}."
    root = narrative(
        language=language,
        header=header,
        context=context,
        findings=paragraphs([lead, told, f"{heading}:", *names, line]),
        impression=paragraphs([lead, told]),
    )
    add_document(made, root=root, header=header, known=())
    return RenderedObject(SUPERSEDED, made)
