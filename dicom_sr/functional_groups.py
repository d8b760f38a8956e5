"""Shared and per-frame functional groups of objects on the grid of their source (PS3.3 C.7.6.16).

Positions, orientation and spacing come from the volume a result was computed on, never from attributes such as Spacing
Between Slices that scanners fill carelessly, and every frame names the very source frame below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import format_number_as_ds

from dicom_sr import codes
from dicom_sr.explicit_vr import add_raw, code, items, longs, sequence, shorts, text

if TYPE_CHECKING:
    from dicom_sr.series import SourceFrame

_PER_FRAME = 0x52009230
_SEGMENT_NUMBER, _SEGMENT_GROUP = 0x0062000B, 0x0062000A
_POSITION, _POSITION_GROUP = 0x00200032, 0x00209113


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: the slice of the volume it lies on and, where frames belong to segments, whose it is."""

    slice_index: int
    segment: int | None = None


def decimals(values: Iterable[float]) -> list[str]:
    """Values of VR DS. Eleven digits are far below a micrometre and swallow what the arithmetic added to 1.8."""
    return [format_number_as_ds(round(float(v), 11) + 0.0) for v in values]


def add_dimensions(made: Dataset, organization_uid: str, *, by_segment: bool, by_position: bool = True) -> None:
    """Multi-frame Dimension module (PS3.3 C.7.6.17): by segment, then by position, where frames have one."""
    organization = Dataset()
    organization.DimensionOrganizationUID = organization_uid
    made.DimensionOrganizationSequence = [organization]
    position = _dimension(organization_uid, _POSITION, _POSITION_GROUP, "Image Position Patient")
    segment = _dimension(organization_uid, _SEGMENT_NUMBER, _SEGMENT_GROUP, "Segment Number")
    made.DimensionIndexSequence = [*([segment] if by_segment else []), *([position] if by_position else [])]


def _dimension(organization_uid: str, pointer: int, group: int, label: str) -> Dataset:
    dimension = Dataset()
    dimension.DimensionOrganizationUID = organization_uid
    dimension.DimensionIndexPointer = pointer
    dimension.FunctionalGroupPointer = group
    dimension.DimensionDescriptionLabel = label
    return dimension


def shared_groups(affine: npt.NDArray[np.float64]) -> Dataset:
    """Orientation and spacing of every frame, from the grid itself."""
    columns, rows, slices = (float(n) for n in np.linalg.norm(affine[:3, :3], axis=0))
    orientation = Dataset()
    orientation.ImageOrientationPatient = decimals([*(affine[:3, 0] / columns), *(affine[:3, 1] / rows)])
    measures = Dataset()
    # A segment's voxels fill the gap between slices, as the volume in the report does.
    measures.SliceThickness, measures.SpacingBetweenSlices = decimals([slices, slices])
    measures.PixelSpacing = decimals([rows, columns])
    shared = Dataset()
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    return shared


def add_frames(
    made: Dataset, frames: Sequence[Frame], sources: Sequence[SourceFrame], derivation: Code, *, placed: bool = True
) -> None:
    """Number of Frames and Per-frame Functional Groups Sequence.

    Parameters
    ----------
    sources : sequence of SourceFrame
        One for each slice of the volume.
    derivation : Code
        What was done to the source frame (CID 7203).
    placed : bool
        Whether frames have a place in the patient. Those of a projection have none; their pixels are those of the image they
        are derived from (PS3.3 A.51.5.1).
    """
    used = sorted({frame.slice_index for frame in frames})
    rank = {k: n for n, k in enumerate(used, start=1)}
    purpose, how = code(0x0040A170, codes.SOURCE_FOR_PROCESSING), code(0x00089215, derivation)
    derived = {k: _derivation(sources[k], purpose, how) for k in used}
    places = {k: sequence(_POSITION_GROUP, text(_POSITION, "DS", *decimals(sources[k].position_mm))) for k in used}
    owner = {n: _identification(n) for n in {frame.segment for frame in frames}}
    groups = (
        derived[frame.slice_index]
        + _content(frame.segment, rank[frame.slice_index] if placed else None)
        + (places[frame.slice_index] if placed else b"")
        + owner[frame.segment]
        for frame in frames
    )
    made.NumberOfFrames = len(frames)
    add_raw(made, _PER_FRAME, "SQ", items(*groups))


def _derivation(source: SourceFrame, purpose: bytes, how: bytes) -> bytes:
    """Derivation Image macro (PS3.3 C.7.6.16.2.6)."""
    frame = b"" if source.frame_number is None else text(0x00081160, "IS", str(source.frame_number))
    reference = (
        text(0x00081150, "UI", source.sop_class_uid)
        + text(0x00081155, "UI", source.sop_instance_uid)
        + frame
        + text(0x0028135A, "CS", "YES")
        + purpose
    )
    return sequence(0x00089124, sequence(0x00082112, reference) + how)


def _content(segment: int | None, rank: int | None) -> bytes:
    """Frame Content macro: the place of the frame along the dimensions."""
    values = [value for value in (segment, rank) if value is not None]
    return sequence(0x00209111, longs(0x00209157, *values))


def _identification(segment: int | None) -> bytes:
    """Segment Identification macro (PS3.3 C.8.20.3.1)."""
    return b"" if segment is None else sequence(_SEGMENT_GROUP, shorts(_SEGMENT_NUMBER, segment))
