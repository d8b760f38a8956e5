"""The geometry gate: frames of one volume to slice order and affine, or the reason why not.

Everything is computed from Image Position and Image Orientation (Patient) and Pixel Spacing (PS3.3 C.7.6.2.1.1).
Slice Thickness and Spacing Between Slices are never believed: real files carry wrong ones. Nothing is resampled, no
slice is invented, rows and columns are never flipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from dicom_sr.errors import (
    DuplicatePosition,
    GantryTilt,
    GeometryMissing,
    Localiser,
    MissingSlice,
    MixedOrientation,
    SingleSlice,
    UnevenSpacing,
)

MINIMUM_SLICES = 3
"""With fewer, constant spacing cannot be shown."""
ORIENTATION_TOLERANCE_MM = 0.1
"""How far the far corner of an image may move when another slice's orientation is used for it."""
DUPLICATE_TOLERANCE_MM = 0.02
"""Slices closer than this along the normal share a position."""
SPACING_TOLERANCE_MM = 0.1
"""How far a slice may lie from its place in the regular stack, along the normal; at most 5 % of the spacing."""
DRIFT_TOLERANCE_MM = 0.2
"""How far the stack may drift within the image plane from first to last slice before it counts as tilted."""
SIZE_TOLERANCE_MM = 0.02
"""How much Pixel Spacing times size may differ between slices."""
_UNIT_TOLERANCE = 1e-3
_NAMED_INSTANCES = 12


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one frame says it lies.

    Attributes
    ----------
    position_mm : tuple or None
        Image Position (Patient).
    orientation : tuple or None
        Image Orientation (Patient): row direction, column direction.
    spacing_mm : tuple or None
        Pixel Spacing: distance of rows, distance of columns.
    size : tuple of int
        Rows, columns.
    localiser : bool
        Image Type says LOCALIZER.
    name : str
        SOP Instance UID, with ``#n`` for a frame.
    """

    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    size: tuple[int, int]
    localiser: bool
    name: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A regular stack: ``order`` lists the frames by increasing position along the normal; ``affine_lps`` maps
    (column, row, slice, 1) to mm; ``offsets_mm`` are the positions along the normal, in that order."""

    order: tuple[int, ...]
    affine_lps: npt.NDArray[np.float64]
    offsets_mm: tuple[float, ...]


def stack(placements: Sequence[Placement]) -> Stack:
    """Order frames into a regular stack.

    Raises
    ------
    GeometryMissing, Localiser, MixedOrientation, SingleSlice, DuplicatePosition, GantryTilt, MissingSlice, UnevenSpacing
        With slice positions along the normal in mm and SOP Instance UIDs in ``detail``.
    """
    _require_geometry(placements)
    row, column = _common_orientation(placements)
    normal = np.cross(row, column)
    if len(placements) < MINIMUM_SLICES:
        raise SingleSlice(
            f"{len(placements)} slice(s), at least {MINIMUM_SLICES} are needed",
            slices=len(placements),
            sop_instance_uids=[p.name for p in placements],
        )
    positions = np.array([p.position_mm for p in placements])
    offsets = positions @ normal
    order = sorted(range(len(placements)), key=lambda i: (offsets[i], placements[i].name))
    offsets, positions = offsets[order], positions[order]
    names = [placements[i].name for i in order]
    _refuse_duplicates(offsets, names)
    _refuse_drift(positions, offsets, normal, names)
    _refuse_uneven(offsets, names)
    step = (positions[-1] - positions[0]) / (len(order) - 1)
    affine = np.eye(4)
    spacing = placements[0].spacing_mm or (0.0, 0.0)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = row * spacing[1], column * spacing[0], step
    affine[:3, 3] = positions[0]
    return Stack(tuple(order), affine, tuple(float(v) for v in offsets))


def offset_mm(placement: Placement) -> float | None:
    """Position along the frame's own normal, None where the geometry is absent."""
    if placement.position_mm is None or placement.orientation is None:
        return None
    if len(placement.position_mm) != 3 or len(placement.orientation) != 6:
        return None
    (x, y, z), (a, b, c, d, e, f) = placement.position_mm, placement.orientation
    return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d)


def _require_geometry(placements: Sequence[Placement]) -> None:
    lacking = [p.name for p in placements if not _usable(p)]
    if lacking:
        raise GeometryMissing(
            f"position, orientation or pixel spacing is absent or unusable in {len(lacking)} of {len(placements)} images",
            images=len(placements),
            lacking=len(lacking),
            sop_instance_uids=lacking[:_NAMED_INSTANCES],
        )


def _usable(placement: Placement) -> bool:
    position, orientation, spacing = placement.position_mm, placement.orientation, placement.spacing_mm
    if position is None or orientation is None or spacing is None:
        return False
    if (len(position), len(orientation), len(spacing)) != (3, 6, 2):
        return False
    if not all(map(math.isfinite, (*position, *orientation, *spacing))) or min(spacing) <= 0:
        return False
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = (float(np.linalg.norm(row)), float(np.linalg.norm(column)))
    return all(abs(v - 1) <= _UNIT_TOLERANCE for v in lengths) and abs(float(row @ column)) <= _UNIT_TOLERANCE


def _common_orientation(
    placements: Sequence[Placement],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Row and column direction that all frames share (unit vectors)."""
    orientations = np.array([p.orientation for p in placements])
    extents = np.array([(p.size[1] * p.spacing_mm[1], p.size[0] * p.spacing_mm[0]) for p in placements if p.spacing_mm])
    groups = _orientation_groups(orientations)
    reference = orientations[groups[0][0]]
    change = orientations - reference
    shift = (
        np.linalg.norm(change[:, :3], axis=1) * extents[:, 0] + np.linalg.norm(change[:, 3:], axis=1) * extents[:, 1]
    )
    planes = [orientations[group[0]] for group in groups]
    if all(p.localiser for p in placements) or _three_planes(planes):
        raise Localiser(
            f"{len(placements)} image(s) in {len(groups)} plane(s)", images=len(placements), planes=len(groups)
        )
    if shift.max() > ORIENTATION_TOLERANCE_MM:
        odd = [p.name for p, s in zip(placements, shift, strict=True) if s > ORIENTATION_TOLERANCE_MM]
        raise MixedOrientation(
            f"{len(groups)} orientations; {len(odd)} of {len(placements)} images differ from most by up to "
            f"{shift.max():.2f} mm at the image's edge",
            images=len(placements),
            orientations=[[round(float(v), 5) for v in plane] for plane in planes[:6]],
            tolerance_mm=ORIENTATION_TOLERANCE_MM,
            sop_instance_uids=odd[:_NAMED_INSTANCES],
        )
    if any(p.localiser for p in placements):
        raise Localiser("some images of the series are localisers", images=len(placements))
    if len({p.size for p in placements}) > 1 or np.abs(extents - extents[0]).max() > SIZE_TOLERANCE_MM:
        raise GeometryMissing(
            "the images differ in matrix size or pixel spacing",
            sizes=sorted({p.size for p in placements}),
            spacings_mm=sorted({p.spacing_mm for p in placements if p.spacing_mm})[:6],
        )
    row, column = reference[:3], reference[3:]
    return row / np.linalg.norm(row), column / np.linalg.norm(column)


def _orientation_groups(orientations: npt.NDArray[np.float64]) -> list[list[int]]:
    """Indices of images with about the same orientation, most common first."""
    groups: list[list[int]] = []
    for index, orientation in enumerate(orientations):
        for group in groups:
            if np.abs(orientation - orientations[group[0]]).max() < 0.01:
                group.append(index)
                break
        else:
            groups.append([index])
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def _three_planes(planes: Sequence[npt.NDArray[np.float64]]) -> bool:
    """Three mutually perpendicular planes in one series: a scout, whatever its Image Type says."""
    normals = [np.cross(plane[:3], plane[3:]) for plane in planes]
    largest = math.sin(math.radians(20))
    return len(planes) == 3 and all(abs(float(a @ b)) < largest for a, b in combinations(normals, 2))


def _refuse_duplicates(offsets: npt.NDArray[np.float64], names: Sequence[str]) -> None:
    close = [int(i) for i in np.flatnonzero(np.diff(offsets) <= DUPLICATE_TOLERANCE_MM)]
    if close:
        places = sorted({round(float(offsets[i]), 3) for i in close})
        involved = sorted({names[j] for i in close for j in (i, i + 1)})
        raise DuplicatePosition(
            f"{len(places)} position(s) hold more than one image, the first at {places[0]:.2f} mm",
            positions_mm=places[:_NAMED_INSTANCES],
            positions=len(places),
            images=len(names),
            sop_instance_uids=involved[:_NAMED_INSTANCES],
        )


def _refuse_drift(
    positions: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.float64],
    normal: npt.NDArray[np.float64],
    names: Sequence[str],
) -> None:
    """Refuse positions that leave the line along the normal through the first slice."""
    along = offsets - offsets[0]
    in_plane = positions - positions[0] - along[:, None] * normal
    drift = float(np.linalg.norm(in_plane, axis=1).max())
    if drift <= DRIFT_TOLERANCE_MM:
        return
    shear = (along @ in_plane) / float(along @ along)
    rest = float(np.linalg.norm(in_plane - along[:, None] * shear, axis=1).max())
    facts = {
        "drift_mm": round(drift, 3),
        "tolerance_mm": DRIFT_TOLERANCE_MM,
        "positions_mm": [round(float(v), 3) for v in offsets],
        "images": len(names),
    }
    if rest <= DRIFT_TOLERANCE_MM:
        degrees = round(math.degrees(math.atan(float(np.linalg.norm(shear)))), 2)
        raise GantryTilt(
            f"the stack is sheared by {degrees} degrees ({drift:.2f} mm over {along[-1]:.2f} mm)",
            tilt_degrees=degrees,
            **facts,
        )
    worst = int(np.linalg.norm(in_plane - along[:, None] * shear, axis=1).argmax())
    raise GeometryMissing(
        f"the slice at {offsets[worst]:.2f} mm lies {rest:.2f} mm beside the stack",
        beside_mm=round(rest, 3),
        sop_instance_uids=[names[worst]],
        **facts,
    )


def _refuse_uneven(offsets: npt.NDArray[np.float64], names: Sequence[str]) -> None:
    count = len(offsets)
    steps = np.diff(offsets)
    spacing = (offsets[-1] - offsets[0]) / (count - 1)
    off_grid = np.abs(offsets - offsets[0] - spacing * np.arange(count))
    if off_grid.max() <= min(SPACING_TOLERANCE_MM, 0.05 * spacing):
        return
    smallest = float(np.median(steps[steps <= 1.2 * steps.min()]))
    multiples = np.rint(steps / smallest)
    facts = {
        "positions_mm": [round(float(v), 3) for v in offsets],
        "spacing_mm": round(smallest, 3),
        "images": count,
    }
    gaps = [int(i) for i in np.flatnonzero(multiples > 1)]
    if gaps and np.abs(steps - multiples * smallest).max() <= min(2 * SPACING_TOLERANCE_MM, 0.1 * smallest):
        missing = [float(offsets[i] + smallest * m) for i in gaps for m in range(1, int(multiples[i]))]
        raise MissingSlice(
            f"{len(missing)} slice(s) missing at spacing {smallest:.2f} mm, expected at "
            + ", ".join(f"{v:.2f}" for v in missing[:_NAMED_INSTANCES])
            + " mm",
            missing_positions_mm=[round(v, 3) for v in missing],
            neighbours=[[names[i], names[i + 1]] for i in gaps][:_NAMED_INSTANCES],
            **facts,
        )
    raise UnevenSpacing(
        f"distances between slices run from {steps.min():.3f} to {steps.max():.3f} mm",
        smallest_mm=round(float(steps.min()), 3),
        largest_mm=round(float(steps.max()), 3),
        tolerance_mm=SPACING_TOLERANCE_MM,
        **facts,
    )
