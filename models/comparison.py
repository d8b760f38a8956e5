"""A result compared with that of an earlier study: which lesion is which, and what became of it.

Both studies are brought into one patient space first. Within one frame of reference that is the identity; else the head,
or whatever the images show, is registered rigidly, and where the images then do not cover each other nothing is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.lineage import PASSED_OVER, told_members
from models.registration import NotComparable, rigid_transform
from models.results import Change, Comparison, LesionChange, Outcome, Region, StudyResult, Tracking, total_volume_ml
from models.stored_result import Grid
from models.volume import Volume

_Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

__all__ = ["Followed", "NotComparable", "compare"]

TOLERANCE = 0.2
"""Relative change up to which a lesion counts as unchanged: what repeated measurements of small volumes scatter by."""
TOLERANCE_ML = 0.3
"""mL up to which it does."""
REACH_MM = 3.0
"""Lesions within this distance of each other are one: two acquisitions never cut a lesion alike."""
REACH_REGISTERED_MM = 5.0
"""The same where both studies had to be registered."""
OTHER_VERSION = "other_version_before"
"""Limitation of a comparison with a result that other files or settings of the model have made."""
COVERAGE = 0.9
"""Share of the earlier lesion voxels that must lie within the images of now."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The earlier study.

    Attributes
    ----------
    date : str
        DICOM DA, empty where unknown.
    series_uid, segmentation_uid, segmentation_class_uid : str
        Its segmentation object; empty where nothing had been found.
    grid : Grid
        Where its mask lies.
    tracking : mapping
        Region number → identity of the lesion.
    volume : Volume or None
        Its images, where the frame of reference is another.
    """

    study_uid: str
    date: str
    series_uid: str
    segmentation_uid: str
    segmentation_class_uid: str
    result: StudyResult
    grid: Grid
    tracking: Mapping[int, Tracking] = field(default_factory=dict)
    volume: Volume | None = None


def compare(result: StudyResult, volume: Volume, frame_of_reference_uid: str, earlier: Followed) -> StudyResult:
    """The result with its comparison, and with the identities of lesions that were there before.

    Parameters
    ----------
    result : StudyResult
        FOUND or NOTHING_FOUND.
    volume : Volume
        The images whose grid its mask has.
    frame_of_reference_uid : str
        Of those images; empty where unknown.

    Raises
    ------
    NotComparable
        The images of both studies cannot be brought into agreement.
    """
    now = result.segmentation.regions if result.segmentation is not None else ()
    then = earlier.result.segmentation.regions if earlier.result.segmentation is not None else ()
    groups: list[_Group] = [_Group([region], []) for region in now]
    if then:
        labels, reach = _earlier_labels(volume, frame_of_reference_uid, earlier)
        groups = _groups(result, volume, labels, reach, now, then)
    changes = [_change(group, earlier) for group in groups]
    identities = {
        change.current_number: change.tracking
        for change, group in zip(changes, groups, strict=True)
        if group.then and change.current_number is not None
    }
    current_ml, prior_ml = result.total_ml or 0.0, earlier.result.total_ml or 0.0
    comparison = Comparison(
        prior_study_uid=earlier.study_uid,
        prior_series_uid=earlier.series_uid,
        prior_segmentation_uid=earlier.segmentation_uid,
        prior_segmentation_class_uid=earlier.segmentation_class_uid,
        prior_date=earlier.date,
        current_ml=current_ml,
        prior_ml=prior_ml,
        change=judge(current_ml or None, prior_ml or None),
        lesions=tuple(changes),
        tolerance=TOLERANCE,
        tolerance_ml=TOLERANCE_ML,
    )
    made = replace(_tracked(result, identities), comparison=comparison)
    return (
        made if _made_alike(result, earlier.result) else replace(made, limitations=(*made.limitations, OTHER_VERSION))
    )


def _made_alike(one: StudyResult, other: StudyResult) -> bool:
    """By the same files with the same settings, and members of a chain; on whatever device."""
    return _made_by(one) == _made_by(other)


def _made_by(result: StudyResult) -> tuple[str, dict[str, str]]:
    parameters = {name: each for name, each in result.model.parameters.items() if name != PASSED_OVER}
    return result.model.digest, {**parameters, **told_members(parameters)}


def judge(current_ml: float | None, prior_ml: float | None) -> Change:
    """The change of one volume; None means that there is none."""
    if prior_ml is None:
        return Change.UNCHANGED if current_ml is None else Change.NEW
    if current_ml is None:
        return Change.RESOLVED
    difference = current_ml - prior_ml
    if abs(difference) <= max(TOLERANCE * prior_ml, TOLERANCE_ML):
        return Change.UNCHANGED
    return Change.LARGER if difference > 0 else Change.SMALLER


@dataclass(slots=True)
class _Group:
    """Lesions of now and of then that are one: largest overlap first. Either side may be empty."""

    now: list[Region]
    then: list[Region]


def _earlier_labels(volume: Volume, frame_of_reference_uid: str, earlier: Followed) -> tuple[_Labels, float]:
    """The earlier mask on the grid of now, and how far apart lesions may lie that are one, in mm."""
    assert earlier.result.segmentation is not None
    mask = earlier.result.segmentation.mask_zyx
    same_frame = bool(frame_of_reference_uid) and frame_of_reference_uid == earlier.grid.frame_of_reference_uid
    if same_frame:
        to_earlier, reach = np.eye(4), REACH_MM
    elif earlier.volume is None:
        raise NotComparable("another frame of reference, and the earlier images are gone")
    else:
        to_earlier, reach = rigid_transform(volume, earlier.volume), REACH_REGISTERED_MM
    labels = _resampled(mask, earlier.grid.affine_lps, volume, to_earlier)
    before_ml = float((mask > 0).sum()) * abs(float(np.linalg.det(earlier.grid.affine_lps[:3, :3]))) / 1000.0
    covered_ml = float((labels > 0).sum()) * volume.voxel_ml
    # Thick slices sample a small lesion coarsely; what lies outside of the images is lost altogether.
    if covered_ml < COVERAGE * before_ml and not _inside(mask, earlier.grid.affine_lps, volume, to_earlier):
        raise NotComparable("the images of now do not cover the lesions of then")
    return labels, reach


def _resampled(
    mask: _Labels,
    affine: npt.NDArray[np.float64],
    volume: Volume,
    to_earlier: npt.NDArray[np.float64],
) -> _Labels:
    """Nearest earlier label of every voxel of now; 0 outside."""
    shape = volume.array_zyx.shape
    # Voxel of now → millimetres now → millimetres then → voxel of then, all in (column, row, slice).
    chain = np.linalg.inv(affine) @ to_earlier @ volume.affine_lps
    flip = np.eye(4)[[2, 1, 0, 3]]
    chain_zyx = flip @ chain @ flip
    resampled: _Labels = ndimage.affine_transform(
        mask, chain_zyx[:3, :3], chain_zyx[:3, 3], output_shape=shape, order=0, mode="constant", cval=0
    )
    return resampled


def _inside(
    mask: _Labels,
    affine: npt.NDArray[np.float64],
    volume: Volume,
    to_earlier: npt.NDArray[np.float64],
) -> bool:
    """Whether nearly all earlier lesion voxels lie within the images of now."""
    k, j, i = np.nonzero(mask)
    points = np.stack([i, j, k, np.ones_like(i)]).astype(np.float64)
    index = np.linalg.inv(volume.affine_lps) @ np.linalg.inv(to_earlier) @ affine @ points
    limits = np.array(volume.array_zyx.shape[::-1], float)[:, None]
    within = ((index[:3] > -1.0) & (index[:3] < limits)).all(axis=0)
    return bool(within.mean() >= COVERAGE)


def _groups(
    result: StudyResult,
    volume: Volume,
    labels: _Labels,
    reach_mm: float,
    now: Sequence[Region],
    then: Sequence[Region],
) -> list[_Group]:
    """Lesions that touch each other over time, of now first in their order, then those that are gone."""
    mask = result.segmentation.mask_zyx if result.segmentation is not None else np.zeros_like(labels)
    overlaps = _overlaps(mask, labels, volume, reach_mm)
    groups: list[_Group] = []
    left_now, left_then = list(now), list(then)
    while left_now:
        group = _Group([left_now.pop(0)], [])
        grown = True
        while grown:
            here = {region.number for region in group.now}
            there = {region.number for region in group.then}
            more_then = [r for r in left_then if any((n, r.number) in overlaps for n in here)]
            more_now = [r for r in left_now if any((r.number, n) in overlaps for n in there)]
            group.then += more_then
            group.now += more_now
            left_then = [r for r in left_then if r not in more_then]
            left_now = [r for r in left_now if r not in more_now]
            grown = bool(more_then or more_now)
        first = group.now[0].number
        group.then.sort(key=lambda r: (-overlaps.get((first, r.number), 0), -(r.volume_ml or 0.0), r.number))
        groups.append(group)
    return groups + [_Group([], [region]) for region in left_then]


def _overlaps(mask: _Labels, labels: _Labels, volume: Volume, reach_mm: float) -> dict[tuple[int, int], int]:
    """(number now, number then) → voxels of the earlier lesion within reach of the one of now."""
    found: dict[tuple[int, int], int] = {}
    for number in (int(n) for n in np.unique(mask) if n):
        distance = ndimage.distance_transform_edt(mask != number, sampling=volume.spacing_mm_zyx)
        near = labels[(distance <= reach_mm) & (labels > 0)]
        for earlier, count in zip(*np.unique(near, return_counts=True), strict=True):
            found[number, int(earlier)] = int(count)
    return found


def _change(group: _Group, earlier: Followed) -> LesionChange:
    current_ml = total_volume_ml(group.now) if group.now else None
    prior_ml = total_volume_ml(group.then) if group.then else None
    label = _label(group.now or group.then)
    if group.then:
        number = group.then[0].number
        tracking = earlier.tracking.get(number) or Tracking("", group.then[0].label)
    else:
        number, tracking = None, Tracking("", group.now[0].label)
    return LesionChange(
        tracking=tracking,
        label=label,
        current_ml=current_ml,
        prior_ml=prior_ml,
        change=judge(current_ml, prior_ml),
        current_number=group.now[0].number if group.now else None,
        prior_number=number,
    )


def _label(regions: Sequence[Region]) -> str:
    first, *others = regions
    return first.label if not others else f"{first.label} (with {', '.join(str(each.number) for each in others)})"


def _tracked(result: StudyResult, identities: Mapping[int, Tracking]) -> StudyResult:
    """The result with the identities that lesions have from before; one without a UID stays without."""
    if result.segmentation is None:
        return result
    regions = tuple(
        replace(region, tracking=identities[region.number])
        if region.number in identities and identities[region.number].uid
        else region
        for region in result.segmentation.regions
    )
    if result.outcome is not Outcome.FOUND:
        return result
    return replace(result, segmentation=replace(result.segmentation, regions=regions))
