"""Lesions followed from one study to the next: who is who, what changed, and when nothing may be said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.comparison import OTHER_VERSION, Followed, NotComparable, compare, judge
from models.composer import compose
from models.phantom import LesionSpec, make_phantom
from models.registration import rigid_transform
from models.results import Change, NotCompared, Outcome, Replaced, StudyResult, Tracking
from models.stored_result import Grid
from models.volume import Volume
from tests.generators.results import found, not_assessed, nothing_found

SHAPE, SPACING = (12, 40, 40), (5.0, 2.0, 2.0)
HERE = "1.2.3"


def _affine() -> npt.NDArray[np.float64]:
    return np.array([[2.0, 0, 0, -40], [0, 2.0, 0, -40], [0, 0, 5.0, -30], [0, 0, 0, 1.0]])


def _volume() -> Volume:
    return Volume(np.ones(SHAPE, np.float32), _affine())


def _mask(*boxes: tuple[slice, slice, slice]) -> npt.NDArray[np.uint8]:
    mask = np.zeros(SHAPE, np.uint8)
    for number, box in enumerate(boxes, start=1):
        mask[box] = number
    return mask


def _box(z: int, y: int, x: int, size: int) -> tuple[slice, slice, slice]:
    return slice(z, z + 2), slice(y, y + size), slice(x, x + size)


def _earlier(result: StudyResult, frame: str = HERE, affine: npt.NDArray[np.float64] | None = None) -> Followed:
    regions = result.segmentation.regions if result.segmentation else ()
    tracking = {region.number: Tracking(f"2.25.{region.number}", region.label) for region in regions}
    grid = Grid(_affine() if affine is None else affine, SHAPE, frame)
    return Followed("1.9", "20260101", "1.9.1", "1.9.2", "1.2.840.10008.5.1.4.1.1.66.4", result, grid, tracking)


def _result(*boxes: tuple[slice, slice, slice]) -> StudyResult:
    return found(_mask(*boxes), _volume().voxel_ml) if boxes else nothing_found()


def _changes(now: StudyResult, then: StudyResult) -> dict[tuple[int | None, int | None], Change]:
    made = compare(now, _volume(), HERE, _earlier(then))
    assert made.comparison is not None
    return {(each.current_number, each.prior_number): each.change for each in made.comparison.lesions}


def test_each_lesion_is_followed_by_itself() -> None:
    then = _result(_box(2, 5, 5, 8), _box(2, 25, 25, 6), _box(8, 25, 5, 5))
    now = _result(_box(2, 5, 5, 12), _box(8, 25, 5, 5), _box(8, 5, 30, 4))
    made = compare(now, _volume(), HERE, _earlier(then))
    assert made.comparison is not None and made.segmentation is not None
    assert _changes(now, then) == {
        (1, 1): Change.LARGER,
        (2, 3): Change.UNCHANGED,
        (3, None): Change.NEW,
        (None, 2): Change.RESOLVED,
    }
    kept = [region.tracking.uid if region.tracking else None for region in made.segmentation.regions]
    assert kept == ["2.25.1", "2.25.3", None]
    assert made.comparison.change is judge(now.total_ml, then.total_ml)


def test_lesions_that_merge_or_part_are_one() -> None:
    apart = _result(_box(4, 5, 5, 7), _box(4, 5, 13, 6))
    joined = _result((slice(4, 6), slice(5, 12), slice(5, 18)))
    ((numbers, change),) = _changes(joined, apart).items()
    assert numbers == (1, 1) and change is Change.UNCHANGED
    made = compare(apart, _volume(), HERE, _earlier(joined))
    assert made.comparison is not None and made.segmentation is not None
    (lesion,) = made.comparison.lesions
    assert lesion.label == "Infarct core 1 (with 2)" and lesion.current_ml == pytest.approx(apart.total_ml)
    # The identity goes on in the larger part alone: one Tracking UID never stands for two lesions of one study.
    assert [region.tracking is not None for region in made.segmentation.regions] == [True, False]


def test_nothing_before_and_nothing_now() -> None:
    lesion = _box(2, 5, 5, 8)
    assert _changes(_result(lesion), nothing_found()) == {(1, None): Change.NEW}
    assert _changes(nothing_found(), _result(lesion)) == {(None, 1): Change.RESOLVED}
    made = compare(nothing_found(), _volume(), HERE, _earlier(nothing_found()))
    assert made.comparison is not None and made.comparison.change is Change.UNCHANGED


@pytest.mark.parametrize(
    "changed", [{"digest": "f" * 64}, {"parameters": {"member.a": "1.0 digest CPU"}}, {"provider": "CUDA"}]
)
def test_a_result_of_another_version_is_compared_with_a_warning(changed: dict[str, Any]) -> None:
    then, now = _result(_box(2, 5, 5, 8)), _result(_box(2, 5, 5, 12))
    made = compare(now, _volume(), HERE, _earlier(replace(then, model=replace(then.model, **changed))))
    assert made.comparison is not None and made.comparison.change is Change.LARGER
    said = {language: " ".join(compose(made, language).notes) for language in ("en", "ja")}
    assert ("another version of the model" in said["en"]) is ("provider" not in changed)
    assert ("別の版" in said["ja"]) is ("provider" not in changed)


@pytest.mark.parametrize(
    ("now", "then", "expected"),
    [
        (10.0, 12.0, Change.UNCHANGED),
        (10.0, 13.0, Change.SMALLER),
        (0.5, 0.25, Change.UNCHANGED),
        (0.6, 0.25, Change.LARGER),
        (None, None, Change.UNCHANGED),
    ],
)
def test_what_counts_as_change(now: float | None, then: float | None, expected: Change) -> None:
    assert judge(now, then) is expected


def test_another_frame_without_images_is_not_compared() -> None:
    with pytest.raises(NotComparable):
        compare(_result(_box(2, 5, 5, 8)), _volume(), HERE, _earlier(_result(_box(2, 5, 5, 8)), frame="1.2.4"))


def test_lesions_outside_the_images_of_now_are_not_called_resolved() -> None:
    moved = _affine()
    moved[2, 3] -= 200.0
    with pytest.raises(NotComparable):
        compare(_result(_box(2, 5, 5, 8)), _volume(), HERE, _earlier(_result(_box(2, 5, 5, 8)), affine=moved))


def test_a_moved_and_turned_head_is_registered_and_another_body_refused() -> None:
    head = make_phantom(3, shape_zyx=(20, 64, 64), spacing_mm_zyx=(7.0, 3.6, 3.6), lesions=(LesionSpec(30.0, "left"),))
    angle = np.deg2rad(8.0)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = (9.0, -14.0, 6.0)
    fixed = head.dwi
    moving = Volume(head.dwi.array_zyx, turn @ head.dwi.affine_lps)
    matrix = rigid_transform(fixed, moving)
    inside = np.argwhere(head.truth_zyx > 0)[:, ::-1].T
    points = head.dwi.affine_lps @ np.vstack([inside, np.ones(inside.shape[1])])
    error = np.linalg.norm((matrix @ points - turn @ points)[:3], axis=0)
    assert error.max() < 2.0
    assert np.array_equal(matrix, rigid_transform(fixed, moving)), "the same images give the same numbers"
    noise = Volume(np.random.default_rng(1).random(moving.array_zyx.shape, np.float32), moving.affine_lps)
    with pytest.raises(NotComparable):
        rigid_transform(fixed, noise)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_text_says_what_is_compared_and_what_is_replaced(language: str) -> None:
    then, now = _result(_box(2, 5, 5, 8)), _result(_box(2, 5, 5, 12))
    made = compare(now, _volume(), HERE, _earlier(then))
    made = replace(made, replaces=Replaced("2026-01-31 03:12", 1, Outcome.FOUND, 2.5, 24, 0, ("FLAIR",)))
    text = compose(made, language)
    for part in ("2026-01-01", "2.6", "5.8", "+125 %"):
        assert part in text.findings and part in text.impression, text
    assert "2026-01-31 03:12" in text.notes[0] and "FLAIR" in text.notes[0] and "24" in text.notes[0]
    assert "2.5" in text.notes[0] and "5.8" in text.notes[0]
    for reason in NotCompared:
        silent = compose(replace(now, not_compared=reason), language)
        assert silent.findings.count("\n") > compose(now, language).findings.count("\n") - 1
        assert silent.findings != compose(now, language).findings
    refused = compose(replace(not_assessed(), replaces=made.replaces), language)
    assert "03:12" in refused.notes[0]


def test_a_member_on_another_device_is_no_other_version() -> None:
    one, other = (
        replace(each, model=replace(each.model, parameters={"member.a": f"1.0 digest {device}"}))
        for each, device in ((_result(_box(2, 5, 5, 8)), "CPU"), (_result(_box(2, 5, 5, 12)), "CUDA"))
    )
    assert OTHER_VERSION not in compare(one, _volume(), HERE, _earlier(other)).limitations
