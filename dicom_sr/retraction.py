"""Notes that tell a destination that objects it has were replaced: a rejection (IHE IOCM), or a status in words."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_sr import codes
from dicom_sr.composite import Place
from dicom_sr.key_objects import KeyObject, render_key_objects
from dicom_sr.rendering import REJECTION, SUPERSEDED, EarlierObject, RenderContext, RenderedObject
from dicom_sr.source_header import SourceHeader
from dicom_sr.status_report import render_superseded
from models.results import StudyResult

_DESCRIPTION = "AI: earlier result rejected"
_WORDS = {
    "en": "the AI result of {moment} (run {run}) is replaced by a later one",
    "ja": "{moment}のAI結果（実行{run}回目）は、後の結果に置き換えられた",
}


def render_retraction(
    objects: Sequence[EarlierObject],
    header: SourceHeader,
    context: RenderContext,
    result: StudyResult,
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
    told = _WORDS.get(language, _WORDS["en"]).format(moment=moment, run=run)
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
            models=(result.model,),
            role=REJECTION,
            language=language,
        )
        return RenderedObject(REJECTION, made)
    made = render_superseded(
        result,
        language,
        header,
        context,
        position=0,
        change=told,
        replaced=[f"{each.role}: {each.sop_instance_uid}" for each in objects],
    )
    return RenderedObject(SUPERSEDED, made)
