"""Segmentations over source images: each frame goes to the slice that lies where it lies, or nowhere.

A frame is placed by Plane Position (Patient) within the same Frame of Reference, and what it names as its source must
agree; the order of frames says nothing. Nothing is resampled: over images of another plane or grid nothing is drawn,
and the page says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_sr.colours import colour_of, rgb_of
from dicom_sr.pixels import READ_ERRORS
from node.web.dicomweb.frames import native
from node.web.dicomweb.holdings import Holding
from node.web.dicomweb.pixel_source import PixelElement, read_stored
from node.web.dicomweb.search import resource_of
from node.web.viewer.stacks import Slice, Stack

POSITION_TOLERANCE_MM = 0.1
_ORIENTATION_TOLERANCE = 1e-3
_SPACING_TOLERANCE_MM = 1e-3


@dataclass(frozen=True, slots=True)
class SegmentFrame:
    """One frame of a segmentation.

    Attributes
    ----------
    segment : int or None
        Segment Number; None in a label map, whose pixels name it.
    position, orientation, spacing : tuple of float
        Of its plane.
    sources : frozenset
        (SOP Instance UID, frame or None) it was made from.
    areas : dict
        Segment Number → pixels it has in the frame.
    """

    number: int
    segment: int | None
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    sources: frozenset[tuple[str, int | None]]
    areas: dict[int, int]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a segmentation is drawn in one stack, or why not.

    Attributes
    ----------
    frames : dict
        Index of the slice → frames over it.
    refusal : str
        Empty where it is drawn.
    unplaced : int
        Frames with pixels that lie at no slice of the stack.
    named : int
        Frames that name the image they are drawn over as their source.
    """

    frames: dict[int, list[SegmentFrame]] = field(default_factory=dict)
    refusal: str = ""
    unplaced: int = 0
    named: int = 0


@dataclass(frozen=True, slots=True)
class Overlay:
    """A segmentation, read."""

    holding: Holding
    header: Dataset
    kind: str
    frames: tuple[SegmentFrame, ...]

    def described(self, stacks: Sequence[Stack]) -> dict[str, Any]:
        """What the page needs of it."""
        placed = {stack.key: place(self, stack) for stack in stacks}
        produced = self.holding.produced
        return {
            "sop": self.holding.sop_instance_uid,
            "label": str(self.header.get("SeriesDescription") or self.header.get("ContentLabel") or "segmentation"),
            "ours": produced is not None,
            "state": produced.state if produced is not None else "received",
            "run": produced.job_id if produced is not None else 0,
            "kind": self.kind,
            "rows": int(self.header.Rows),
            "columns": int(self.header.Columns),
            "threshold": int(self.header.get("MaximumFractionalValue") or 1) / 2,
            "url": f"/dicom-web{resource_of(self.holding)}/frames/",
            "segments": [self._segment(item, placed) for item in self.header.SegmentSequence if _number(item) > 0],
            "placed": {
                key: {
                    str(index): [{"frame": one.number, "segment": one.segment} for one in frames]
                    for index, frames in each.frames.items()
                }
                for key, each in placed.items()
                if not each.refusal
            },
            "refused": {key: each.refusal for key, each in placed.items() if each.refusal},
            "madeFrom": [key for key, each in placed.items() if each.named],
            "unplaced": {key: each.unplaced for key, each in placed.items() if each.unplaced},
        }

    def _segment(self, item: Dataset, placed: dict[str, Placed]) -> dict[str, Any]:
        number = _number(item)
        slices = {key: _extent(each, number) for key, each in placed.items() if not each.refusal}
        return {
            "number": number,
            "label": str(item.get("SegmentLabel") or f"segment {number}"),
            "meaning": _meaning(item),
            "colour": "#{:02x}{:02x}{:02x}".format(*_colour(item, number)),
            "slices": {key: extent for key, extent in slices.items() if extent is not None},
        }


def read_overlay(holding: Holding) -> Overlay | None:
    """A segmentation as it is stored; None where it cannot be read as one."""
    header, source = read_stored(holding.path)
    if source is None or source.tag != "7FE00010":
        return None
    try:
        kind = str(header.SegmentationType)
        return Overlay(holding, header, kind, tuple(_frames(header, source, kind)))
    except READ_ERRORS:
        return None


def place(overlay: Overlay, stack: Stack) -> Placed:
    """Find the slice of each frame."""
    frame_of_reference = str(overlay.header.get("FrameOfReferenceUID") or "")
    if not frame_of_reference or not stack.frame_of_reference:
        return Placed(refusal="no frame of reference is stated: positions cannot be compared")
    if frame_of_reference != stack.frame_of_reference:
        return Placed(refusal="another frame of reference: positions cannot be compared")
    if any(not _same_grid(overlay, frame, each) for frame in overlay.frames[:1] for each in stack.slices):
        return Placed(refusal="another plane or pixel grid than these images; nothing is resampled")
    if any(not _same_plane(frame, overlay.frames[0]) for frame in overlay.frames):
        return Placed(refusal="the segmentation has frames in several planes")
    names = {(each.holding.sop_instance_uid, each.frame.frame_number) for each in stack.slices}
    found: dict[int, list[SegmentFrame]] = {}
    unplaced, agreed = 0, 0
    for frame in overlay.frames:
        index = _slice_at(frame, stack.slices)
        named = frame.sources & names
        if index is None:
            if named:
                return Placed(refusal="a frame names an image here and lies elsewhere: it contradicts itself")
            unplaced += any(frame.areas.values())
            continue
        at = stack.slices[index]
        if named and (at.holding.sop_instance_uid, at.frame.frame_number) not in named:
            return Placed(refusal="a frame names another image than the one it lies at: it contradicts itself")
        agreed += bool(named)
        found.setdefault(index, []).append(frame)
    return Placed(found, unplaced=unplaced, named=agreed)


def _frames(header: Dataset, source: PixelElement, kind: str) -> Iterator[SegmentFrame]:
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for at, groups in enumerate(header.PerFrameFunctionalGroupsSequence):
        identified = _macro(groups, shared, "SegmentIdentificationSequence")
        segment = int(identified.ReferencedSegmentNumber) if identified is not None and kind != "LABELMAP" else None
        position = _macro(groups, shared, "PlanePositionSequence")
        orientation = _macro(groups, shared, "PlaneOrientationSequence")
        measures = _macro(groups, shared, "PixelMeasuresSequence")
        pixels = pixels_of(source, at + 1)
        yield SegmentFrame(
            number=at + 1,
            segment=segment,
            position=_numbers(position, "ImagePositionPatient", 3),
            orientation=_numbers(orientation, "ImageOrientationPatient", 6),
            spacing=_numbers(measures, "PixelSpacing", 2),
            sources=frozenset(_sources(groups)),
            areas=_areas(pixels, segment, float(header.get("MaximumFractionalValue") or 1) / 2),
        )


def pixels_of(source: PixelElement, number: int) -> npt.NDArray[Any]:
    """Pixels of one frame of a segmentation, one after the other."""
    header = source.header
    count = int(header.Rows) * int(header.Columns)
    content = native(source, number)
    if int(header.BitsAllocated) == 1 and source.length is not None:
        return np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")[:count]
    return np.frombuffer(content, np.uint16 if int(header.BitsAllocated) == 16 else np.uint8)[:count]


def _areas(pixels: npt.NDArray[Any], segment: int | None, threshold: float) -> dict[int, int]:
    if segment is not None:
        return {segment: int((pixels >= max(threshold, 0.5)).sum())}
    numbers, counts = np.unique(pixels, return_counts=True)
    return {int(number): int(count) for number, count in zip(numbers, counts, strict=True) if number}


def _sources(groups: Dataset) -> Iterator[tuple[str, int | None]]:
    for derivation in groups.get("DerivationImageSequence") or ():
        for item in derivation.get("SourceImageSequence") or ():
            uid, frames = str(item.get("ReferencedSOPInstanceUID", "")), item.get("ReferencedFrameNumber")
            several = [frames] if frames is None or isinstance(frames, int | str) else list(frames)
            yield from ((uid, None if frame is None else int(frame)) for frame in several)


def _macro(groups: Dataset, shared: Dataset, keyword: str) -> Dataset | None:
    items = groups.get(keyword) or shared.get(keyword)
    return items[0] if items else None


def _numbers(item: Dataset | None, keyword: str, count: int) -> tuple[float, ...]:
    values = tuple(float(value) for value in item[keyword].value) if item is not None else ()
    if len(values) != count:
        raise ValueError(keyword)
    return values


def _same_plane(one: SegmentFrame, other: SegmentFrame) -> bool:
    return _near(one.orientation, other.orientation, _ORIENTATION_TOLERANCE) and _near(
        one.spacing, other.spacing, _SPACING_TOLERANCE_MM
    )


def _same_grid(overlay: Overlay, frame: SegmentFrame, each: Slice) -> bool:
    placement = each.frame.placement
    return (
        placement.size == (int(overlay.header.Rows), int(overlay.header.Columns))
        and _near(frame.orientation, placement.orientation, _ORIENTATION_TOLERANCE)
        and _near(frame.spacing, placement.spacing_mm, _SPACING_TOLERANCE_MM)
    )


def _near(one: Sequence[float], other: Sequence[float] | None, tolerance: float) -> bool:
    return other is not None and len(one) == len(other) and bool(np.allclose(one, other, rtol=0, atol=tolerance))


def _slice_at(frame: SegmentFrame, slices: Sequence[Slice]) -> int | None:
    """The slice whose first pixel lies where the frame's does; where several do, the one it names."""
    near = [
        index
        for index, each in enumerate(slices)
        if _near(frame.position, each.frame.placement.position_mm, POSITION_TOLERANCE_MM)
    ]
    named = [
        index
        for index in near
        if (slices[index].holding.sop_instance_uid, slices[index].frame.frame_number) in frame.sources
    ]
    return next(iter(named or near), None)


def _extent(placed: Placed, number: int) -> dict[str, Any] | None:
    """First, last and largest slice of a segment in a stack."""
    areas = {
        index: area
        for index, frames in placed.frames.items()
        if (area := sum(frame.areas.get(number, 0) for frame in frames))
    }
    if not areas:
        return None
    return {"first": min(areas), "last": max(areas), "largest": max(areas, key=lambda index: (areas[index], -index))}


def _number(item: Dataset) -> int:
    return int(item.SegmentNumber)


def _meaning(item: Dataset) -> str:
    codes: Iterable[Dataset] = item.get("SegmentedPropertyTypeCodeSequence") or ()
    return ", ".join(str(code.get("CodeMeaning", "")) for code in codes)


def _colour(item: Dataset, number: int) -> tuple[int, int, int]:
    value = item.get("RecommendedDisplayCIELabValue")
    return rgb_of([int(each) for each in value]) if value is not None and len(value) == 3 else colour_of(number)
