"""From a typed result to the set of objects one destination gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dicom_sr import measurement_report, segmentation, status_report, text_report
from dicom_sr.errors import SourceUnusable
from dicom_sr.profile import ObjectKind
from dicom_sr.rendering import RenderContext, RenderedObject
from dicom_sr.requested import identify_schemes, ordered_requests
from dicom_sr.scene import Scene
from dicom_sr.source_header import SourceHeader, normalise
from models.results import Draft, Outcome, StudyResult

if TYPE_CHECKING:
    from dicom_sr.series import LoadedStudy, SeriesVolume

__all__ = ["RenderContext", "RenderedObject", "render"]

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
    if context.procedures:
        header = replace(header, requests=ordered_requests(header, context.procedures))
    if result.outcome is Outcome.NOT_ASSESSED:
        made = _statuses(result, header, context)
    elif source is None:
        raise SourceUnusable("an assessed result needs the series it was computed on")
    else:
        made = _results(Scene(result, study, header, source, context))
    for rendered in made:
        identify_schemes(rendered.dataset, context.procedures)
    return made


def _statuses(result: StudyResult, header: SourceHeader, context: RenderContext) -> list[RenderedObject]:
    drafts: dict[str, Draft | None] = {draft.language: draft for draft in result.drafts}
    return [
        RenderedObject(
            status_report.role_of(position, language),
            status_report.render_status(result, language, draft, header, context, position=position),
        )
        for position, (language, draft) in enumerate((drafts or {_DEFAULT_LANGUAGE: None}).items())
    ]


def _results(scene: Scene) -> list[RenderedObject]:
    wanted = _wanted(scene)
    for kind in _KINDS:
        if kind.name in wanted:
            scene.made += kind.render(scene)
    return scene.made


def _wanted(scene: Scene) -> set[ObjectKind]:
    """Kinds to make: those the profile asks for and the result can give, and what they refer to."""
    possible = {kind.name: kind for kind in _KINDS if kind.fits(scene.result)}
    asked = [name for name in possible if name in scene.context.profile.objects]
    if not asked:
        asked = ["text" if scene.result.drafts else "measurements"]
    return {*asked, *(needed for name in asked for needed in possible[name].needs if needed in possible)}


def _is_found(result: StudyResult) -> bool:
    return result.outcome is Outcome.FOUND


def _segmentations(scene: Scene) -> list[RenderedObject]:
    made = segmentation.render_segmentation(scene.result, scene.header, scene.source, scene.context)
    return [RenderedObject(segmentation.ROLE, made)]


def _measurements(scene: Scene) -> list[RenderedObject]:
    report = measurement_report.render_measurements(
        scene.result,
        scene.header,
        scene.source,
        scene.context,
        segmentation=scene.made_as(segmentation.ROLE),
        known=scene.known,
    )
    return [RenderedObject(measurement_report.ROLE, report)]


def _texts(scene: Scene) -> list[RenderedObject]:
    return [
        RenderedObject(
            text_report.role_of(draft.language),
            text_report.render_text(
                scene.result, draft, scene.header, scene.source, scene.context, instance=n, known=scene.known
            ),
        )
        for n, draft in enumerate(scene.result.drafts, start=1)
    ]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of object an assessed result can become.

    Attributes
    ----------
    fits : callable
        Whether a result has what it takes.
    needs : tuple of str
        Kinds it refers to, which go with it.
    """

    name: ObjectKind
    fits: Callable[[StudyResult], bool]
    render: Callable[[Scene], list[RenderedObject]]
    needs: tuple[ObjectKind, ...] = ()


# In the order in which they are sent: what is referred to comes first.
_KINDS: tuple[_Kind, ...] = (
    _Kind("seg", _is_found, _segmentations),
    _Kind("measurements", lambda result: True, _measurements, needs=("seg",)),
    _Kind("text", lambda result: bool(result.drafts), _texts),
)
