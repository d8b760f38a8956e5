"""Presentation states (PS3.3 A.33.1): outlines and labels over the original images, which stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicom_sr.annotations import Annotation, annotation_item, annotations_of, layer_item, layers_of
from dicom_sr.composite import Place, compose
from dicom_sr.display import Display, display_of
from dicom_sr.frames import SourceFrame
from dicom_sr.key_images import images_of
from dicom_sr.provenance import shortened
from dicom_sr.rendering import RenderedObject
from dicom_sr.scene import Scene
from dicom_sr.structured_report import instance_reference

ROLE = "presentation"


@dataclass(frozen=True, slots=True)
class _Shown:
    """An annotated frame: how it is displayed, and what lies on it."""

    frame: SourceFrame
    display: Display
    annotations: tuple[Annotation, ...]


def render_presentations(scene: Scene) -> list[RenderedObject]:
    """Presentation state of the analysed series, referring to exactly the annotated images.

    Images that are not rescaled alike cannot share a presentation state; each way gets one of its own.

    Raises
    ------
    ObjectInvalid
        A mark does not lie in its image, or a map has another grid.
    """
    _, rows, columns = scene.source.volume.array_zyx.shape
    headers = {str(header.SOPInstanceUID): header for header in scene.known}
    found: dict[int, list[Annotation]] = {}
    for annotation in annotations_of(scene.result, rows, columns):
        found.setdefault(annotation.slice_index, []).append(annotation)
    alike: dict[str, list[_Shown]] = {}
    for slice_index, placed in found.items():
        frame = scene.source.frames[slice_index]
        display = display_of(headers[frame.sop_instance_uid], frame.frame_number)
        alike.setdefault(display.pipeline, []).append(_Shown(frame, display, tuple(placed)))
    return [
        RenderedObject(role, _state(role, shown, scene, instance))
        for instance, shown in enumerate(alike.values(), start=1)
        for role in (ROLE if instance == 1 else f"{ROLE}-{instance}",)
    ]


def _state(role: str, shown: Sequence[_Shown], scene: Scene, instance: int) -> Dataset:
    result, header = scene.result, scene.header
    made = compose(
        sop_class_uid=GrayscaleSoftcopyPresentationStateStorage,
        modality="PR",
        role=role,
        place=Place(ROLE, 6, instance, "AI: outlines, not reviewed"),
        header=header,
        context=scene.context,
        models=(result.model,),
    )
    if header.body_part:
        made.BodyPartExamined = header.body_part
    else:
        made.Laterality = ""  # Type 2C without a body part: unknown
    made.PresentationCreationDate, made.PresentationCreationTime = made.ContentDate, made.ContentTime
    del made.ContentDate, made.ContentTime  # not in this IOD
    made.ContentLabel = "AI_OUTLINES"
    made.ContentDescription = shortened(f"AI, not reviewed: {result.title}")
    made.ContentCreatorName = ""
    series = Dataset()
    series.ReferencedImageSequence = _references([each.frame for each in shown])
    series.SeriesInstanceUID = scene.source.series_uid
    made.ReferencedSeriesSequence = [series]
    _add_display(made, shown)
    _add_annotations(made, shown, scene)
    return made


def _references(frames: Sequence[SourceFrame]) -> list[Dataset]:
    references = []
    for sop_class, uid, numbers in images_of(frames):
        reference = instance_reference(sop_class, uid)
        if numbers is not None:
            reference.ReferencedFrameNumber = numbers
        references.append(reference)
    return references


def _add_display(made: Dataset, shown: Sequence[_Shown]) -> None:
    """Modality LUT, VOI LUT, Presentation LUT and displayed area, each as the images have it."""
    first = shown[0].display
    made.update(first.modality)
    windows = _by_content([(each.frame, each.display.window) for each in shown])
    if items := [_with_references(window, frames, len(shown)) for window, frames in windows if len(window)]:
        made.SoftcopyVOILUTSequence = items
    made.PresentationLUTShape = "INVERSE" if first.is_inverse else "IDENTITY"
    areas = _by_content([(each.frame, each.display.area) for each in shown])
    made.DisplayedAreaSelectionSequence = [_with_references(area, frames, len(shown)) for area, frames in areas]


def _by_content(pairs: Sequence[tuple[SourceFrame, Dataset]]) -> list[tuple[Dataset, list[SourceFrame]]]:
    grouped: dict[str, tuple[Dataset, list[SourceFrame]]] = {}
    for frame, item in pairs:
        grouped.setdefault(str(item), (item, []))[1].append(frame)
    return list(grouped.values())


def _with_references(item: Dataset, frames: Sequence[SourceFrame], total: int) -> Dataset:
    """The item, saying which images it is for; without that it is for all of them."""
    if len(frames) < total:
        item.ReferencedImageSequence = _references(frames)
    return item


def _add_annotations(made: Dataset, shown: Sequence[_Shown], scene: Scene) -> None:
    _, rows, columns = scene.source.volume.array_zyx.shape
    annotations = [annotation for each in shown for annotation in each.annotations]
    made.GraphicLayerSequence = [layer_item(layer, n) for n, layer in enumerate(layers_of(annotations), start=1)]
    made.GraphicAnnotationSequence = [
        annotation_item(annotation, _references([each.frame])[0], rows, columns)
        for each in shown
        for annotation in each.annotations
    ]
