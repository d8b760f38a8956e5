"""The images to look at first: where the findings are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicom_sr import codes
from dicom_sr.composite import Place
from dicom_sr.key_objects import ROLE, KeyObject, render_key_objects
from dicom_sr.rendering import RenderContext
from dicom_sr.source_header import SourceHeader
from models.results import StudyResult

if TYPE_CHECKING:
    from dicom_sr.series import SeriesVolume, SourceFrame

SELECTED = 20
"""At most so many images are selected; a hundred key images are none."""

_NOTES = {
    "en": "AI, not reviewed by a physician: key images of {title}. Model: {model}.",
    "ja": "AIによる選択・医師未確認: {title} のキー画像。モデル: {model}。",
}


def key_slices(result: StudyResult) -> list[int]:
    """Slice indices worth looking at, each once: of regions, largest first, then of marks in their order."""
    regions = result.segmentation.regions if result.segmentation is not None else ()
    found = [*(region.key_slice for region in regions), *(mark.slice_index for mark in result.marks)]
    return list(dict.fromkeys(found))


def key_frames(result: StudyResult, source: SeriesVolume, limit: int) -> list[SourceFrame]:
    """Source frames of the first :func:`key_slices`, at most ``limit``."""
    return [source.frames[k] for k in key_slices(result)][:limit]


def images_of(frames: Sequence[SourceFrame]) -> list[tuple[str, str, list[int] | None]]:
    """Class, instance and frame numbers of every image the frames lie in, in their order.

    The numbers are None for an image of one frame.
    """
    numbers: dict[tuple[str, str], list[int]] = {}
    for frame in frames:
        found = numbers.setdefault((frame.sop_class_uid, frame.sop_instance_uid), [])
        if frame.frame_number is not None:
            found.append(frame.frame_number)
    return [(sop_class, uid, sorted(found) or None) for (sop_class, uid), found in numbers.items()]


def render_key_images(
    result: StudyResult, header: SourceHeader, source: SeriesVolume, context: RenderContext
) -> Dataset:
    """Key Object Selection "Of Interest" of the images that show the findings.

    Raises
    ------
    ValueError
        The result has neither a region nor a mark.
    """
    language = result.drafts[0].language if result.drafts else "en"
    note = _NOTES.get(language, _NOTES["en"]).format(
        title=result.title, model=f"{result.model.name} {result.model.version}"
    )
    selected = [
        KeyObject(sop_class, uid, source.series_uid, header.study_uid, tuple(numbers or ()))
        for sop_class, uid, numbers in images_of(key_frames(result, source, SELECTED))
    ]
    return render_key_objects(
        selected,
        header,
        context,
        title=codes.OF_INTEREST,
        note=note,
        place=Place(ROLE, 4, 1, "AI: key images, not reviewed"),
        models=(result.model,),
        language=language,
    )
