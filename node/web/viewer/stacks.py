"""Source images as a viewer steps through them: frames of one plane and kind, ordered by where they lie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import HTTPException
from pydicom.dataset import Dataset

from dicom_sr.frames import Frame, frames_of
from dicom_sr.geometry import offset_mm
from dicom_sr.pictures.orientation import letters
from dicom_sr.pixels import READ_ERRORS
from node.web.dicomweb.holdings import Holding
from node.web.dicomweb.pixel_source import PixelElement, read_stored
from node.web.dicomweb.rendering import stated_window
from node.web.dicomweb.search import resource_of

NOT_SOURCES = frozenset({"SEG", "SR", "KO", "PR", "DOC", "RTSTRUCT", "RTDOSE", "RTPLAN", "REG", "RWV", "PMAP"})
"""Modalities that are no images, or are shown over others."""
_MOST_FRAMES = 20_000
_AXES = "LPH"
_OPPOSITE = "RAF"


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame.

    Attributes
    ----------
    number : int
        Frame from 1.
    frame : Frame
        Geometry and rescaling.
    instance_number : int
    facts : dict
        What the page needs to fetch, window and place it.
    """

    holding: Holding
    number: int
    frame: Frame
    instance_number: int
    source: PixelElement
    facts: dict[str, Any]

    @property
    def offset_mm(self) -> float | None:
        """Along its own normal; None where the geometry is absent."""
        return offset_mm(self.frame.placement)


@dataclass(frozen=True, slots=True)
class Stack:
    """Frames to step through.

    Attributes
    ----------
    frame_of_reference : str
        UID; empty where the images name none.
    """

    key: str
    series_uid: str
    series_number: int
    description: str
    modality: str
    frame_of_reference: str
    slices: tuple[Slice, ...]

    def described(self) -> dict[str, Any]:
        """What the page needs of it."""
        return {
            "key": self.key,
            "series": self.series_uid,
            "number": self.series_number,
            "description": self.description,
            "modality": self.modality,
            "frameOfReference": self.frame_of_reference,
            "slices": [each.facts for each in self.slices],
        }


def stacks_of(held: Iterable[Holding], lost: list[str] | None = None) -> list[Stack]:
    """Stacks of a study, by Series Number.

    Parameters
    ----------
    lost : list or None
        Gets the SOP Instance UIDs of what cannot be read.
    """
    by_series: dict[str, list[Slice]] = {}
    for holding in held:
        if holding.modality not in NOT_SOURCES:
            try:
                by_series.setdefault(holding.series_uid, []).extend(_slices(holding))
            except (HTTPException, *READ_ERRORS):
                if lost is not None:
                    lost.append(holding.sop_instance_uid)
    found = [stack for slices in by_series.values() if slices for stack in _stacks(slices)]
    return sorted(found, key=lambda stack: (stack.series_number, stack.series_uid, stack.key))


def _slices(holding: Holding) -> list[Slice]:
    header, source = read_stored(holding.path)
    if source is None or not header.get("Rows") or source.tag != "7FE00010":
        return []
    frames = frames_of(header, 0, limit=_MOST_FRAMES)
    number = int(header.get("InstanceNumber") or 0)
    return [
        Slice(holding, at + 1, frame, number, source, _facts(holding, source, frame, at + 1))
        for at, frame in enumerate(frames)
    ]


def _facts(holding: Holding, source: PixelElement, frame: Frame, number: int) -> dict[str, Any]:
    header, placement = source.header, frame.placement
    voi = stated_window(header, number)
    places = (*(placement.position_mm or ()), *(placement.orientation or ()), *(placement.spacing_mm or ()))
    if not all(map(math.isfinite, places)):
        raise ValueError("a place that is not a number")
    return {
        "sop": holding.sop_instance_uid,
        "frame": number,
        "url": f"/dicom-web{resource_of(holding)}/frames/{number}",
        "rows": placement.size[0],
        "columns": placement.size[1],
        "spacing": _spacing(header, placement.spacing_mm),
        "bits": int(header.get("BitsAllocated") or 8),
        "signed": int(header.get("PixelRepresentation") or 0) == 1,
        "colour": int(header.get("SamplesPerPixel") or 1) > 1
        or header.get("PhotometricInterpretation") == "PALETTE COLOR",
        "inverted": header.get("PhotometricInterpretation") == "MONOCHROME1",
        "slope": frame.mapping.slope,
        "intercept": frame.mapping.intercept,
        "window": None if voi is None else [voi.centre, voi.width],
        "offset": offset_mm(placement),
        "place": _place(placement.position_mm, placement.orientation, placement.spacing_mm, placement.size),
        "sides": _sides(placement.orientation),
    }


def _stacks(slices: Sequence[Slice]) -> list[Stack]:
    groups = _grouped(slices, fine=True)
    if len(groups) > max(1, len(slices) // 2):
        # What tells repetitions apart elsewhere differs from slice to slice here.
        groups = _grouped(slices, fine=False)
    made = []
    for at, members in enumerate(groups):
        ordered = sorted(members, key=_order)
        header = ordered[0].source.header
        made.append(
            Stack(
                key=f"{ordered[0].holding.series_uid}#{at}",
                series_uid=ordered[0].holding.series_uid,
                series_number=_whole(header, "SeriesNumber"),
                description=_description(header, ordered[0], among=len(groups)),
                modality=str(header.get("Modality") or ""),
                frame_of_reference=str(header.get("FrameOfReferenceUID") or ""),
                slices=tuple(ordered),
            )
        )
    return made


def _grouped(slices: Sequence[Slice], *, fine: bool) -> list[list[Slice]]:
    groups: dict[Any, list[Slice]] = {}
    for each in slices:
        frame = each.frame
        plane = tuple(round(value, 3) for value in frame.placement.orientation or ())
        kind = (frame.diffusion.b_value, frame.diffusion.direction, frame.separators) if fine else ()
        groups.setdefault((plane, frame.placement.size, kind), []).append(each)
    return list(groups.values())


def _order(each: Slice) -> tuple[float, int, int]:
    offset = each.offset_mm
    return (0.0 if offset is None else round(offset, 2), each.instance_number, each.number)


def _description(header: Dataset, first: Slice, *, among: int) -> str:
    text = str(header.get("SeriesDescription") or header.get("Modality") or "images")
    b_value = first.frame.diffusion.b_value
    return f"{text} (b = {b_value:g})" if among > 1 and b_value is not None else text


def _whole(header: Dataset, keyword: str) -> int:
    try:
        return int(header.get(keyword) or 0)
    except (TypeError, ValueError):
        return 0


def _spacing(header: Dataset, spacing_mm: tuple[float, ...] | None) -> list[float]:
    """Distance of rows and of columns in mm; only their ratio counts where the image has none in the patient."""
    for values in (spacing_mm, header.get("ImagerPixelSpacing"), header.get("PixelAspectRatio")):
        if values and len(values) == 2 and all(float(value) > 0 for value in values):
            return [float(value) for value in values]
    return [1.0, 1.0]


def _sides(orientation: tuple[float, ...] | None) -> dict[str, str] | None:
    """Letters at the edges of the slice as it is shown; None where the image does not say."""
    if orientation is None or len(orientation) != 6 or not any(orientation):
        return None
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    return {"left": letters(-row), "right": letters(row), "top": letters(-column), "bottom": letters(column)}


def _place(
    position: tuple[float, ...] | None,
    orientation: tuple[float, ...] | None,
    spacing: tuple[float, ...] | None,
    size: tuple[int, int],
) -> str:
    """Where the middle of the slice lies, along the axis it is stacked along, e.g. ``H 34.5 mm``."""
    if position is None or orientation is None or spacing is None or len(position) != 3 or len(orientation) != 6:
        return ""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    axis = int(np.abs(np.cross(row, column)).argmax())
    middle = np.array(position) + row * spacing[1] * (size[1] - 1) / 2 + column * spacing[0] * (size[0] - 1) / 2
    value = float(middle[axis])
    return f"{_AXES[axis] if value >= 0 else _OPPOSITE[axis]} {abs(value):.1f} mm"
