"""Presentation states: outlines filled again give the mask, or the stronger half of a map, on the right images, shown as
those images are shown.

The outlines are filled by counting edges, not with the code that drew them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_sr.checks.places import inside, place_problems, points_of
from dicom_sr.checks.subject import Subject
from dicom_sr.rendering import kind_of

if TYPE_CHECKING:
    from dicom_sr.series import SourceFrame

Frame = tuple[str, int | None]
Lines = list[Dataset]

_MARKS = "AI_MARKS"
_MAP = "AI_MAP_"
_NOT_REVIEWED = "not reviewed"


def check_presentation(subject: Subject) -> Iterator[str]:
    """References, layers, graphics and grayscale pipeline of every presentation state (PS3.3 C.10, C.11)."""
    states = [(role, dataset) for role, dataset in subject.objects if kind_of(role) == "presentation"]
    if not states:
        return
    if subject.source is None:
        yield "presentation: there is nothing to present"
        return
    drawn: dict[tuple[Frame, str], Lines] = {}
    for role, state in states:
        yield from _reference_problems(role, state, subject)
        yield from _layer_problems(role, state)
        yield from _display_problems(role, state, subject)
        for item in state.get("GraphicAnnotationSequence", []):
            frame = _only_frame(item)
            yield from _graphic_problems(role, item, *subject.source.volume.array_zyx.shape[1:])
            drawn.setdefault((frame, str(item.get("GraphicLayer"))), []).extend(item.get("GraphicObjectSequence", []))
    yield from _outline_problems(drawn, subject)
    yield from _map_problems(drawn, subject)
    yield from _mark_problems(drawn, subject)


def _frames(reference: Dataset) -> list[Frame]:
    number = reference.get("ReferencedFrameNumber")
    uid = str(reference.ReferencedSOPInstanceUID)
    if number is None:
        return [(uid, None)]
    return [(uid, int(n)) for n in ([number] if isinstance(number, int) else number)]


def _only_frame(item: Dataset) -> Frame:
    frames = [frame for reference in item.get("ReferencedImageSequence", []) for frame in _frames(reference)]
    return frames[0] if len(frames) == 1 else ("", None)


def _reference_problems(role: str, state: Dataset, subject: Subject) -> Iterator[str]:
    assert subject.source is not None
    series = state.get("ReferencedSeriesSequence", [])
    if [entry.get("SeriesInstanceUID") for entry in series] != [subject.source.series_uid]:
        yield f"{role}: does not refer to exactly the analysed series"
        return
    named = [frame for reference in series[0].ReferencedImageSequence for frame in _frames(reference)]
    annotated = {_only_frame(item) for item in state.get("GraphicAnnotationSequence", [])}
    if len(named) != len(set(named)) or set(named) != annotated:
        yield f"{role}: does not refer to exactly the annotated images"


def _layer_problems(role: str, state: Dataset) -> Iterator[str]:
    layers = [str(entry.get("GraphicLayer")) for entry in state.get("GraphicLayerSequence", [])]
    used = {str(item.get("GraphicLayer")) for item in state.get("GraphicAnnotationSequence", [])}
    if len(layers) != len(set(layers)) or set(layers) != used:
        yield f"{role}: layers defined are not the layers used"
    for entry in state.get("GraphicLayerSequence", []):
        if not entry.get("GraphicLayerRecommendedDisplayCIELabValue"):
            yield f"{role}: a layer has no colour"
        if _NOT_REVIEWED not in str(entry.get("GraphicLayerDescription", "")):
            yield f"{role}: a layer does not say that it was not reviewed"


def _graphic_problems(role: str, item: Dataset, rows: int, columns: int) -> Iterator[str]:
    graphics = item.get("GraphicObjectSequence", [])
    if not graphics:
        yield f"{role}: an annotation draws nothing"
    for graphic in graphics:
        points = points_of(graphic.get("GraphicData", []))
        if graphic.get("GraphicAnnotationUnits") != "PIXEL" or graphic.get("GraphicDimensions") != 2:
            yield f"{role}: a graphic does not count in pixels"
        if len(points) != graphic.get("NumberOfGraphicPoints"):
            yield f"{role}: a graphic has another number of points than it says"
        if not inside(points, rows, columns):
            yield f"{role}: a graphic lies outside its image"
    texts = item.get("TextObjectSequence", [])
    if not texts:
        yield f"{role}: an annotation has no label"
    for text in texts:
        words = str(text.get("UnformattedTextValue", ""))
        if not words.startswith("AI: ") or _NOT_REVIEWED not in words:
            yield f"{role}: a label does not say whose it is"
        corners = points_of([*text.BoundingBoxTopLeftHandCorner, *text.BoundingBoxBottomRightHandCorner])
        if text.get("BoundingBoxAnnotationUnits") != "PIXEL" or not inside(corners, rows, columns):
            yield f"{role}: a label lies outside its image"


# Outlines and marks


def _key(frame: SourceFrame) -> Frame:
    return frame.sop_instance_uid, frame.frame_number


def _outline_problems(drawn: dict[tuple[Frame, str], Lines], subject: Subject) -> Iterator[str]:
    assert subject.source is not None
    mask, frames = subject.result.segmentation, subject.source.frames
    expected: set[tuple[Frame, str]] = set()
    for region in mask.regions if mask is not None else ():
        assert mask is not None
        layer = f"AI_{region.number}"
        inside = mask.where(region.number)
        for k in np.flatnonzero(inside.any(axis=(1, 2))):
            place = (_key(frames[int(k)]), layer)
            expected.add(place)
            if place not in drawn:
                yield f"presentation: region {region.number} is not drawn on one of its images"
                continue
            filled = _filled(drawn[place], *mask.mask_zyx.shape[1:])
            if filled is None or not np.array_equal(filled, inside[k]):
                yield f"presentation: an outline of region {region.number} does not enclose the mask"
    if {place for place in drawn if place[1] != _MARKS and not place[1].startswith(_MAP)} - expected:
        yield "presentation: something is drawn where the result has no region"


def _map_problems(drawn: dict[tuple[Frame, str], Lines], subject: Subject) -> Iterator[str]:
    assert subject.source is not None
    left = {place for place in drawn if place[1].startswith(_MAP)}
    maps = subject.result.heat_maps if subject.result.segmentation is None else ()
    for n, heat_map in enumerate(maps, start=1):
        values = heat_map.values_zyx
        least, most = float(np.min(values)), float(np.max(values))
        if least == most:
            continue
        strongest = int(np.argmax(values.reshape(len(values), -1).max(axis=1)))
        place = (_key(subject.source.frames[strongest]), f"{_MAP}{n}")
        left.discard(place)
        wanted = values[strongest] >= least + (most - least) / 2
        filled = _filled(drawn[place], *wanted.shape) if place in drawn else None
        if filled is None or not np.array_equal(filled, wanted):
            yield f"presentation: map {n} is not outlined where it is strongest"
    if left:
        yield "presentation: something is drawn where the result has no map"


def _filled(lines: Lines, rows: int, columns: int) -> npt.NDArray[np.bool_] | None:
    """What outlines along pixel edges enclose, by parity; None where one runs across a pixel or is open."""
    crossings = np.zeros((rows, columns + 1), np.uint8)
    ends: dict[tuple[float, float], int] = {}
    for line in lines:
        points = points_of(line.get("GraphicData", []))
        for end in (points[0], points[-1]) if line.get("GraphicType") == "POLYLINE" else ():
            ends[end] = ends.get(end, 0) + 1
        for (x0, y0), (x1, y1) in pairwise(points):
            if {x0, y0, x1, y1} - {float(int(v)) for v in (x0, y0, x1, y1)} or (x0 != x1 and y0 != y1):
                return None
            if x0 == x1:
                crossings[int(min(y0, y1)) : int(max(y0, y1)), int(x0)] ^= 1
    if any(count % 2 for count in ends.values()):
        return None
    return np.bitwise_xor.accumulate(crossings, axis=1)[:, :columns] != 0


def _mark_problems(drawn: dict[tuple[Frame, str], Lines], subject: Subject) -> Iterator[str]:
    assert subject.source is not None
    _, rows, columns = subject.source.volume.array_zyx.shape
    left = {place: list(lines) for place, lines in drawn.items() if place[1] == _MARKS}
    for n, mark in enumerate(subject.result.marks, start=1):
        lines = left.get((_key(subject.source.frames[mark.slice_index]), _MARKS), [])
        fitting = [
            line
            for line in lines
            if not list(place_problems(str(line.get("GraphicType")), points_of(line.GraphicData), mark, rows, columns))
        ]
        if not fitting:
            yield f"presentation: mark {n} is not drawn where the result has it"
            continue
        lines.remove(fitting[0])
    if any(left.values()):
        yield "presentation: something is drawn where the result has no mark"


# Display


def _display_problems(role: str, state: Dataset, subject: Subject) -> Iterator[str]:
    assert subject.source is not None
    _, rows, columns = subject.source.volume.array_zyx.shape
    series = state.get("ReferencedSeriesSequence", [])
    frames = [f for entry in series for r in entry.get("ReferencedImageSequence", []) for f in _frames(r)]
    for uid, number in frames:
        header = subject.headers.get(uid)
        if header is None:
            continue  # a dangling reference is reported elsewhere
        inverse = header.get("PhotometricInterpretation") == "MONOCHROME1"
        if state.get("PresentationLUTShape") != ("INVERSE" if inverse else "IDENTITY"):
            yield f"{role}: would turn black into white"
        values = _macro(header, number, "PixelValueTransformationSequence")
        if not values.get("ModalityLUTSequence"):
            ours, theirs = ((d.get("RescaleSlope"), d.get("RescaleIntercept")) for d in (state, values))
            if None not in theirs and theirs[0] and ours != theirs:
                yield f"{role}: does not rescale as the image does"
        yield from _window_problems(role, _applying(state, "SoftcopyVOILUTSequence", (uid, number)), header, number)
        areas = _applying(state, "DisplayedAreaSelectionSequence", (uid, number))
        if [list(entry.get("DisplayedAreaBottomRightHandCorner", [])) for entry in areas] != [[columns, rows]]:
            yield f"{role}: does not show exactly the whole image"


def _applying(state: Dataset, keyword: str, frame: Frame) -> list[Dataset]:
    """Items that apply to a frame: those that name it, and those that name none."""
    items: Sequence[Dataset] = state.get(keyword, [])
    return [
        item
        for item in items
        if "ReferencedImageSequence" not in item
        or frame in [f for r in item.ReferencedImageSequence for f in _frames(r)]
    ]


def _window_problems(role: str, items: list[Dataset], header: Dataset, number: int | None) -> Iterator[str]:
    values = _macro(header, number, "FrameVOILUTSequence")
    centre, width = (_first(values.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if len(items) > 1:
        yield f"{role}: two windows apply to one image"
    elif centre is not None and width is not None and width >= 1.0:
        stated = [(_first(item.get("WindowCenter")), _first(item.get("WindowWidth"))) for item in items]
        if stated != [(centre, width)]:
            yield f"{role}: does not have the window of the image"


def _first(value: object) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return float(value)
    values = list(value) if not isinstance(value, str) and hasattr(value, "__iter__") else [value]
    return float(str(values[0])) if values and values[0] not in (None, "") else None


def _macro(header: Dataset, number: int | None, keyword: str) -> Dataset:
    if number is None or "PerFrameFunctionalGroupsSequence" not in header:
        return header
    for groups in (header.PerFrameFunctionalGroupsSequence[number - 1], header.SharedFunctionalGroupsSequence[0]):
        if groups.get(keyword):
            item: Dataset = groups[keyword].value[0]
            return item
    return Dataset()
