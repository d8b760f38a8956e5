"""From a typed result to the set of objects one destination gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicom_sr import measurement_report, segmentation, status_report, text_report
from dicom_sr.errors import SourceUnusable
from dicom_sr.rendering import RenderContext, RenderedObject
from dicom_sr.source_header import SourceHeader, normalise
from models.results import Draft, Outcome, StudyResult

if TYPE_CHECKING:
    from dicom_sr.series import LoadedStudy, SeriesVolume

__all__ = ["RenderContext", "RenderedObject", "render"]

SEG, MEASUREMENTS, TEXT = "seg", "measurements", "text"
_DEFAULT_LANGUAGE = "en"


def render(
    result: StudyResult, study: LoadedStudy, context: RenderContext, source: SeriesVolume | None
) -> list[RenderedObject]:
    """Objects that say what ``result`` says.

    Parameters
    ----------
    result : StudyResult
        FOUND gives segmentation, measurements and a draft in each language; NOTHING_FOUND the same without the
        segmentation; NOT_ASSESSED a status object in each language.
    study : LoadedStudy
        The study the result belongs to; patient and study attributes are taken over from it.
    context : RenderContext
        Identity, work key and the kinds of objects wanted.
    source : SeriesVolume or None
        The volume whose grid the mask has; None when nothing was assessed.

    Returns
    -------
    list of RenderedObject
        In the order in which they should be sent: what is referred to comes first. Never empty: where a profile wants
        none of the kinds a result has, the drafts go (or the measurements, when there is no draft).

    Raises
    ------
    SourceUnusable
        The study cannot carry the result.
    ObjectInvalid
        A number of the result is not finite.
    """
    header = normalise(study, source)
    if result.outcome is Outcome.NOT_ASSESSED:
        return _statuses(result, header, context)
    if source is None:
        raise SourceUnusable("an assessed result needs the series it was computed on")
    return _results(result, study, header, source, context)


def _statuses(result: StudyResult, header: SourceHeader, context: RenderContext) -> list[RenderedObject]:
    drafts: dict[str, Draft | None] = {draft.language: draft for draft in result.drafts}
    return [
        RenderedObject(
            status_report.role_of(position, language),
            status_report.render_status(result, language, draft, header, context, position=position),
        )
        for position, (language, draft) in enumerate((drafts or {_DEFAULT_LANGUAGE: None}).items())
    ]


def _results(
    result: StudyResult, study: LoadedStudy, header: SourceHeader, source: SeriesVolume, context: RenderContext
) -> list[RenderedObject]:
    wanted = _wanted(result, context)
    known = study.source_datasets(source)
    made: list[RenderedObject] = []
    segmented: Dataset | None = None
    if result.outcome is Outcome.FOUND and {SEG, MEASUREMENTS} & wanted:
        # The measurements refer to the segmentation: neither goes without the other.
        segmented = segmentation.render_segmentation(result, header, source, context)
        made.append(RenderedObject(segmentation.ROLE, segmented))
    if MEASUREMENTS in wanted:
        report = measurement_report.render_measurements(
            result, header, source, context, segmentation=segmented, known=known
        )
        made.append(RenderedObject(measurement_report.ROLE, report))
    if TEXT in wanted:
        made += _texts(result, header, source, context, known)
    return made


def _wanted(result: StudyResult, context: RenderContext) -> frozenset[str]:
    possible = {MEASUREMENTS, *({SEG} if result.outcome is Outcome.FOUND else ()), *({TEXT} if result.drafts else ())}
    return frozenset(possible & set(context.profile.objects)) or frozenset({TEXT if result.drafts else MEASUREMENTS})


def _texts(
    result: StudyResult,
    header: SourceHeader,
    source: SeriesVolume,
    context: RenderContext,
    known: Sequence[Dataset],
) -> list[RenderedObject]:
    return [
        RenderedObject(
            text_report.role_of(draft.language),
            text_report.render_text(result, draft, header, source, context, instance=n, known=known),
        )
        for n, draft in enumerate(result.drafts, start=1)
    ]
