"""From a typed result to the set of objects one destination gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dicom_sr import (
    key_images,
    key_objects,
    map_areas,
    measurement_report,
    parametric_map,
    presentation,
    segmentation,
    status_report,
    structure_set,
    text_report,
)
from dicom_sr.character_set import fit
from dicom_sr.errors import ObjectInvalid, SourceUnusable
from dicom_sr.lateness import say_late
from dicom_sr.private_schemes import identify_private_schemes
from dicom_sr.profile import ObjectKind
from dicom_sr.rendering import RenderContext, RenderedObject
from dicom_sr.requested import ordered_requests
from dicom_sr.scene import Scene
from dicom_sr.source_header import SourceHeader, normalise
from dicom_sr.versions import name_predecessors
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
        FOUND gives whatever the profile wants and the result has; NOTHING_FOUND measurements and drafts that say so, or a
        status object where the profile wants neither; NOT_ASSESSED a status object in each language.
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
        none of the kinds a result has, its status goes where nothing was found, else the drafts (or the measurements,
        when there is no draft).

    Raises
    ------
    SourceUnusable
        The study cannot carry the result.
    ObjectInvalid
        A number of the result is not finite, or a place in it is outside of the images.
    CharacterUnencodable
        A text cannot be written in the profile's character set.
    """
    made = _rendered(result, study, context, source)
    for rendered in made:
        identify_private_schemes(rendered.dataset, result.model)
        fit(rendered.dataset, context.profile)
    return made


def _rendered(
    result: StudyResult, study: LoadedStudy, context: RenderContext, source: SeriesVolume | None
) -> list[RenderedObject]:
    header = normalise(study, source)
    if context.procedures:
        header = replace(header, requests=ordered_requests(header, context.procedures))
    if result.outcome is Outcome.NOT_ASSESSED:
        made = [*statuses(result, header, context), *_status_pictures(result, header, context)]
    elif source is None:
        raise SourceUnusable("an assessed result needs the series it was computed on")
    else:
        _require_one_grid(result)
        made = _results(Scene(result, study, header, source, context))
    name_predecessors(made, result.replaces, context.earlier, result.total_ml)
    say_late(made, result)
    return made


def _require_one_grid(result: StudyResult) -> None:
    """Everything with a place counts on the one source the objects refer to."""
    roles = {mark.role for mark in result.marks}
    if result.segmentation is not None:
        roles.add(result.segmentation.role)
    if len(roles) > 1:
        raise ObjectInvalid("regions and marks count on different inputs", roles=sorted(roles))


def statuses(result: StudyResult, header: SourceHeader, context: RenderContext) -> list[RenderedObject]:
    """Status objects of a result that found or assessed nothing, one for each language."""
    drafts: dict[str, Draft | None] = {draft.language: draft for draft in result.drafts}
    return [
        RenderedObject(
            status_report.role_of(position, language),
            status_report.render_status(result, language, draft, header, context, position=position),
        )
        for position, (language, draft) in enumerate((drafts or {_DEFAULT_LANGUAGE: None}).items())
    ]


def _status_pictures(result: StudyResult, header: SourceHeader, context: RenderContext) -> list[RenderedObject]:
    """A picture of the status, for a destination that is sent pictures: it may show nothing else."""
    if not {"summary", "secondary_capture"} & set(context.profile.objects):
        return []
    # Drawing loads fonts and more, for a quarter of a second; only who wants pictures waits for it.
    from dicom_sr import pictured

    return pictured.status_pictures(result, header, context)


def _results(scene: Scene) -> list[RenderedObject]:
    wanted = _wanted(scene)
    for kind in _KINDS:
        if kind.name in wanted:
            scene.made += kind.render(scene)
    return scene.made


def _wanted(scene: Scene) -> set[ObjectKind]:
    """Kinds to make: those the profile asks for and the result can give, and what they refer to."""
    placed = scene.source.has_place
    possible = {kind.name: kind for kind in _KINDS if kind.fits(scene.result) and (placed or not kind.needs_place)}
    if not measurement_report.has_groups(scene):
        possible.pop("measurements", None)
    profile = scene.context.profile
    if not profile.text_documents:
        possible = {name: kind for name, kind in possible.items() if name not in _TEXT_DOCUMENTS}
    asked = [name for name in possible if name in profile.objects]
    if _TELLING & set(asked):
        # A report that says "nothing found" is the answer; a status beside it would be clutter.
        asked = [name for name in asked if name != "status"]
    if not asked:
        asked = [_answer_of(scene.result, possible, texts=profile.text_documents)]
    return _within_budget(asked, possible, profile.maximum_series)


def _within_budget(asked: Iterable[ObjectKind], possible: Mapping[ObjectKind, _Kind], budget: int) -> set[ObjectKind]:
    """The most important of the kinds asked for, each with what it refers to, as long as their series fit.

    Each kind has a series of its own, so a study gets as many series as kinds. The most important one goes in any case.
    """
    chosen: set[ObjectKind] = set()
    for name in sorted(asked, key=_IMPORTANCE.index):
        more = chosen | {name, *(needed for needed in possible[name].needs if needed in possible)}
        if len(more) <= budget or not chosen:
            chosen = more
    return chosen


_IMPORTANCE: tuple[ObjectKind, ...] = (
    *("seg", "measurements", "status", "text", "summary", "presentation", "secondary_capture", "pdf"),
    *("key_objects", "parametric_map", "rtstruct"),
)
"""Most important first: the overlay and its numbers, then words, then pictures of them, then what few systems read."""
_TEXT_DOCUMENTS: frozenset[ObjectKind] = frozenset({"text", "pdf"})
_TELLING: frozenset[ObjectKind] = frozenset({"measurements", "text", "pdf", "secondary_capture", "summary"})


def _answer_of(result: StudyResult, possible: Iterable[ObjectKind], *, texts: bool) -> ObjectKind:
    """What goes where a profile wants none of the kinds a result has: a study is never left without an answer."""
    if result.outcome is Outcome.NOTHING_FOUND:
        return "status"
    if result.drafts and texts:
        return "text"
    answer = next(iter(possible), None)
    if answer is None:
        text_only = "it is text alone, and the profile sends no text documents (text_documents)"
        why = text_only if result.drafts else "it says nothing"
        raise ObjectInvalid(f"the result has nothing that an object could carry: {why}")
    return answer


def _has_regions(result: StudyResult) -> bool:
    return result.outcome is Outcome.FOUND and result.segmentation is not None


def _segmentations(scene: Scene) -> list[RenderedObject]:
    return segmentation.render_segmentations(scene)


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


def _captures(scene: Scene) -> list[RenderedObject]:
    from dicom_sr import pictured

    return pictured.captures(scene)


def _summaries(scene: Scene) -> list[RenderedObject]:
    from dicom_sr import pictured

    return pictured.summaries(scene)


def _pdfs(scene: Scene) -> list[RenderedObject]:
    from dicom_sr import pictured

    return pictured.pdfs(scene)


def _maps(scene: Scene) -> list[RenderedObject]:
    return parametric_map.render_parametric_maps(scene)


def _structure_sets(scene: Scene) -> list[RenderedObject]:
    return [structure_set.render_structure_set(scene)]


def _statuses(scene: Scene) -> list[RenderedObject]:
    return statuses(scene.result, scene.header, scene.context)


def _has_places(result: StudyResult) -> bool:
    return result.outcome is Outcome.FOUND and bool(key_images.key_slices(result))


def _has_outlines(result: StudyResult) -> bool:
    return _has_places(result) or bool(map_areas.areas_of(result))


def _key_objects(scene: Scene) -> list[RenderedObject]:
    made = key_images.render_key_images(scene.result, scene.header, scene.source, scene.context)
    return [RenderedObject(key_objects.ROLE, made)]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of object an assessed result can become.

    Attributes
    ----------
    fits : callable
        Whether a result has what it takes.
    needs : tuple of str
        Kinds it refers to, which go with it.
    needs_place : bool
        Whether it says where in the patient something lies, which a projection cannot.
    """

    name: ObjectKind
    fits: Callable[[StudyResult], bool]
    render: Callable[[Scene], list[RenderedObject]]
    needs: tuple[ObjectKind, ...] = ()
    needs_place: bool = False


# In the order in which they are sent: what is referred to comes first.
_KINDS: tuple[_Kind, ...] = (
    _Kind("seg", _has_regions, _segmentations),
    _Kind("measurements", measurement_report.has_measurements, measurement_report.render_measurements, needs=("seg",)),
    _Kind("text", lambda result: bool(result.drafts), _texts),
    _Kind("secondary_capture", lambda result: True, _captures, needs_place=True),
    _Kind("summary", lambda result: True, _summaries, needs_place=True),
    _Kind("pdf", lambda result: bool(result.drafts), _pdfs, needs_place=True),
    _Kind("status", lambda result: result.outcome is Outcome.NOTHING_FOUND, _statuses),
    _Kind("presentation", _has_outlines, presentation.render_presentations),
    _Kind("key_objects", _has_places, _key_objects),
    _Kind("parametric_map", lambda result: bool(parametric_map.maps_of(result)), _maps, needs_place=True),
    _Kind("rtstruct", _has_regions, _structure_sets, needs_place=True),
)
