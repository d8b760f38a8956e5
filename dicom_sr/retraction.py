"""Notes that tell a destination that objects it has were replaced: a rejection (IHE IOCM), or a status in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_sr import codes
from dicom_sr.composite import Place
from dicom_sr.key_objects import KeyObject, render_key_objects
from dicom_sr.rendering import REJECTION, SUPERSEDED, EarlierObject, RenderContext, RenderedObject
from dicom_sr.source_header import SourceHeader
from dicom_sr.status_report import render_superseded, role_of
from models.history import changed
from models.results import Outcome, Replaced, StudyResult

_DESCRIPTION = "AI: earlier result rejected"
_REPLACED = {
    "en": "the AI result of {moment} (run {run}) is replaced by a later one",
    "ja": "{moment}のAI結果（実行{run}回目）は、後の結果に置き換えられた",
}
_ANEW = {
    "en": "the AI result of {moment} (run {run}) was written anew in a form this archive takes; what it says is the same",
    "ja": "{moment}のAI結果（実行{run}回目）は、保管先が受け付ける形式で書き直された。内容は同じである",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """What a note takes back, and what stands instead.

    Attributes
    ----------
    objects : sequence of EarlierObject
        What the destination has, or may have. At least one.
    moment : str
        When they were made, site's wall clock.
    run : int
        Number of their run.
    earlier : Replaced or None
        What they said; None where that is not known, or the same.
    outcome, total_ml
        Of the result that stands now.
    is_same_run : bool
        The same result was written anew.
    """

    objects: Sequence[EarlierObject]
    moment: str
    run: int
    earlier: Replaced | None = None
    outcome: Outcome | None = None
    total_ml: float | None = None
    is_same_run: bool = False

    def told(self, language: str) -> str:
        """Which result is taken back and what is different now: ``"… is replaced by a later one: 12 → 14 mL"``."""
        words = _ANEW if self.is_same_run else _REPLACED
        said = words.get(language, words["en"]).format(moment=self.moment, run=self.run)
        if self.earlier is None:
            return said
        between = "：" if language == "ja" else ": "
        return said + between + changed(self.outcome, self.total_ml, self.earlier, language)


def render_retractions(
    taken: Taken,
    header: SourceHeader,
    context: RenderContext,
    result: StudyResult,
    *,
    as_rejection: bool,
    languages: Sequence[str],
) -> list[RenderedObject]:
    """The note that objects are superseded: one Key Object Selection, or a text in each language.

    Parameters
    ----------
    result : StudyResult
        Its model is named.
    as_rejection : bool
        A Key Object Selection "Rejected for Quality Reasons" (IHE RAD TF-3 IOCM), upon which an archive hides them; else
        a text for people.
    languages : sequence of str
        At least one; a Key Object Selection speaks the first.
    """
    if as_rejection:
        return [_rejection(taken, header, context, result, languages[0])]
    return [
        RenderedObject(
            role_of(position, language, role=SUPERSEDED),
            render_superseded(
                result,
                language,
                header,
                context,
                position=position,
                change=taken.told(language),
                replaced=[f"{each.role}: {each.sop_instance_uid}" for each in taken.objects],
            ),
        )
        for position, language in enumerate(languages)
    ]


def _rejection(
    taken: Taken, header: SourceHeader, context: RenderContext, result: StudyResult, language: str
) -> RenderedObject:
    made = render_key_objects(
        [
            KeyObject(each.sop_class_uid, each.sop_instance_uid, each.series_uid, header.study_uid)
            for each in taken.objects
        ],
        header,
        context,
        title=codes.REJECTED_FOR_QUALITY_REASONS,
        note=taken.told(language),
        place=Place(REJECTION, 5, 1, _DESCRIPTION),
        models=(result.model,),
        role=REJECTION,
        language=language,
    )
    return RenderedObject(REJECTION, made)
