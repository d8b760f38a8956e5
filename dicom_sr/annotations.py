"""Graphic annotations of a result: outlines of regions and heat maps, marks, and what they are called (PS3.3 C.10.5, C.10.7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from pydicom.dataset import Dataset

from dicom_sr.colours import colour_of
from dicom_sr.contours import outlines
from dicom_sr.errors import ObjectInvalid
from dicom_sr.graphics import Points, closed, mark_points, to_graphic
from dicom_sr.map_areas import areas_of
from dicom_sr.provenance import shortened
from models.results import Mark, MarkShape, Region, StudyResult

MARKS_LAYER = "AI_MARKS"
LONGEST = 8000
"""Points of one graphic object. An FL of Explicit VR holds 65534 bytes (PS3.5 7.1.2): 8191 points."""

_BRIGHTEST = 65535
_TEXT_HEIGHT = 0.03  # of the rows
_LETTER_WIDTH = 0.6  # of the text's height


@dataclass(frozen=True, slots=True)
class Layer:
    """A graphic layer a viewer can switch: name (CS), what is in it, and its colour's number."""

    name: str
    description: str
    colour: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """What lies on one slice in one layer.

    Attributes
    ----------
    slice_index : int
        Index along the slice axis, from 0.
    lines : tuple of numpy.ndarray
        Polylines, shape (n, 2), (column, row) from the corner of the image; one point alone is a point.
    text : str
        Label.
    """

    slice_index: int
    layer: Layer
    lines: tuple[Points, ...]
    text: str


def annotations_of(result: StudyResult, rows: int, columns: int) -> list[Annotation]:
    """Everything of a result that has a place on an image, by slice.

    Parameters
    ----------
    rows, columns : int
        Size of the images.

    Raises
    ------
    ObjectInvalid
        A mark does not lie in its image, or a map has another grid.
    """
    found = [*_of_regions(result), *_of_marks(result, rows, columns), *_of_maps(result, rows, columns)]
    return sorted(found, key=lambda annotation: annotation.slice_index)


def layers_of(annotations: Sequence[Annotation]) -> list[Layer]:
    """Layers in use, each once, in the order of their colours; marks last."""
    used = dict.fromkeys(annotation.layer for annotation in annotations)
    return sorted(used, key=lambda layer: (layer.name == MARKS_LAYER, layer.colour))


def _of_regions(result: StudyResult) -> Iterator[Annotation]:
    mask = result.segmentation
    for region in mask.regions if mask is not None else ():
        assert mask is not None
        layer = Layer(f"AI_{region.number}", shortened(f"AI, not reviewed: {region.label}"), region.number)
        inside = mask.where(region.number)
        for k in np.flatnonzero(inside.any(axis=(1, 2))):
            yield Annotation(int(k), layer, _outline(inside[k]), _region_text(region, int(k)))


def _of_maps(result: StudyResult, rows: int, columns: int) -> Iterator[Annotation]:
    for area in areas_of(result):
        if area.inside.shape != (rows, columns):
            raise ObjectInvalid("a map has another grid than the images", map=area.label)
        layer = Layer(f"AI_MAP_{area.number}", shortened(f"AI, not reviewed: {area.label}"), area.number + 1)
        text = f"AI: {area.label}, upper half of the map (not reviewed)"
        yield Annotation(area.slice_index, layer, _outline(area.inside), text)


def _outline(inside: npt.NDArray[np.bool_]) -> tuple[Points, ...]:
    rings = [ring for part in outlines(inside) for ring in (part.outer, *part.holes)]
    return tuple(piece for ring in rings for piece in _pieces(closed(to_graphic(ring))))


def _of_marks(result: StudyResult, rows: int, columns: int) -> Iterator[Annotation]:
    layer = Layer(
        MARKS_LAYER, "AI, not reviewed: marks", len(result.segmentation.regions) + 1 if result.segmentation else 1
    )
    for number, mark in enumerate(result.marks, start=1):
        lines = tuple(_pieces(mark_points(mark, rows, columns)))
        yield Annotation(mark.slice_index, layer, lines, _mark_text(mark, number))


def _pieces(points: Points) -> Iterator[Points]:
    """A line in pieces that meet, none longer than an element can hold."""
    for start in range(0, max(len(points) - 1, 1), LONGEST - 1):
        yield points[start : start + LONGEST]


def _region_text(region: Region, slice_index: int) -> str:
    measured = slice_index == region.key_slice and region.volume_ml is not None
    volume = f", {region.volume_ml:.1f} mL" if measured else ""
    return f"AI: {region.label}{volume} (not reviewed)"


def _mark_text(mark: Mark, number: int) -> str:
    likely = f", probability {mark.finding.probability:.2f}" if mark.finding is not None else ""
    return f"AI: {mark.label or f'Mark {number}'}{likely} (not reviewed)"


def layer_item(layer: Layer, order: int) -> Dataset:
    """Item of Graphic Layer Sequence (PS3.3 C.10.7)."""
    item = Dataset()
    item.GraphicLayer = layer.name
    item.GraphicLayerOrder = order
    item.GraphicLayerRecommendedDisplayGrayscaleValue = _BRIGHTEST
    item.GraphicLayerDescription = layer.description
    item.GraphicLayerRecommendedDisplayCIELabValue = list(CIELabColor.from_rgb(*colour_of(layer.colour)).value)
    return item


def annotation_item(annotation: Annotation, image: Dataset, rows: int, columns: int) -> Dataset:
    """Item of Graphic Annotation Sequence (PS3.3 C.10.5).

    Parameters
    ----------
    image : Dataset
        Reference to the one image or frame it lies on.
    """
    item = Dataset()
    item.ReferencedImageSequence = [image]
    item.GraphicLayer = annotation.layer.name
    item.TextObjectSequence = [_text_object(annotation, rows, columns)]
    item.GraphicObjectSequence = [_graphic_object(line) for line in annotation.lines]
    return item


def _graphic_object(points: Points) -> Dataset:
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(points)
    item.GraphicData = [float(v) for v in points.ravel()]
    item.GraphicType = MarkShape.POINT.value.upper() if len(points) == 1 else "POLYLINE"
    if len(points) > 1 and np.array_equal(points[0], points[-1]):
        item.GraphicFilled = "N"
    return item


def _text_object(annotation: Annotation, rows: int, columns: int) -> Dataset:
    """The label beside the outline: above it where there is room, and always inside the image."""
    everything = np.vstack(annotation.lines)
    (left, top), bottom = everything.min(axis=0), float(everything[:, 1].max())
    height = min(max(_TEXT_HEIGHT * rows, 1.0), float(rows))
    width = min(_LETTER_WIDTH * height * len(annotation.text), float(columns))
    x = min(float(left), columns - width)
    above, below = float(top) - height, min(bottom, rows - height)
    y = above if above >= 0.0 else below
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "PIXEL"
    item.UnformattedTextValue = annotation.text
    item.BoundingBoxTopLeftHandCorner = [x, y]
    item.BoundingBoxBottomRightHandCorner = [x + width, y + height]
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    return item
