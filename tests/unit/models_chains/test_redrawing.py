"""Boxes that become one, the guard against leakage, and what is left of a mask after it was cleaned up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import pytest

from models.adapters.promptable import PromptableOptions
from models.chains.redrawing import Boxed, RedrawingOptions, cleaned, guarded, merged, redrawn
from models.export.imported import CARDS_FOLDER
from models.model import Model
from models.prompts import BoxPrompt
from models.volume import Volume

OPTIONS = RedrawingOptions(smallest_voxels=4)


class Draws:
    """Stands in for a promptable model: gives each box what a function makes of it, and remembers the boxes."""

    def __init__(self, draw: Any) -> None:
        self.boxes: list[BoxPrompt] = []
        self._draw = draw

    def planes(self, volume: Volume, boxes: Sequence[BoxPrompt]) -> Iterator[tuple[BoxPrompt, np.ndarray]]:
        self.boxes += boxes
        for box in boxes:
            yield box, self._draw(volume.array_zyx.shape[1:], box)


def whole_box(shape: tuple[int, int], box: BoxPrompt) -> np.ndarray:
    plane = np.zeros(shape, np.float32)
    plane[int(box.top) : int(box.bottom) + 1, int(box.left) : int(box.right) + 1] = 1
    return plane


def drawn_by(draws: Draws, found: np.ndarray, seeds: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, int]]:
    volume = Volume(np.ones(found.shape, np.float32), np.eye(4))
    return redrawn(cast(Model, draws), found, found > 0 if seeds is None else seeds, volume, OPTIONS)


def boxed(box: BoxPrompt, *at: tuple[slice, slice]) -> Boxed:
    labels = np.zeros((20, 20), np.uint8)
    for place in at:
        labels[place] = box.target
    return Boxed(box, labels)


def test_boxes_that_are_nearly_the_same_become_one() -> None:
    one, most, corner = BoxPrompt(1, 0, 2, 2, 11, 11), BoxPrompt(2, 0, 2, 4, 11, 13), BoxPrompt(3, 0, 8, 8, 17, 17)
    other = BoxPrompt(4, 1, 2, 2, 11, 11)
    found = merged([boxed(each) for each in (one, most, corner, other)], 0.5)
    # 80 of 120 voxels are shared; of the corner, 16 of 184; and nothing is shared with another slice.
    assert [(b.box.left, b.box.right, b.box.slice_index) for b in found] == [(2, 13, 0), (8, 17, 0), (2, 11, 1)]
    assert len(merged([boxed(one), boxed(most)], 0.7)) == 2


def test_of_one_mask_for_two_each_gets_what_is_nearest_to_it() -> None:
    """A rim around another region: two boxes nearly the same, of which the first alone would leak into the second."""
    found = np.zeros((1, 20, 20), np.uint8)
    found[0, 4:16, 4:16] = 1
    found[0, 5:15, 5:15] = 2
    draws = Draws(lambda shape, box: whole_box(shape, box.grown(1, *shape)))
    mask, counts = drawn_by(draws, found)
    assert counts == {"redrawn": 1, "too_small": 0, "disagreed": 0, "merged": 1} and len(draws.boxes) == 1
    assert np.array_equal(mask == 2, found == 2)
    assert (mask == 1).sum() == 14 * 14 - 100 and (mask[found == 1] == 1).all()


def test_a_mask_that_leaks_or_means_something_else_changes_nothing() -> None:
    before = np.zeros((20, 20), bool)
    before[5:11, 5:11] = True
    leak, other, tiny = np.ones_like(before), np.roll(before, 9, 0), np.zeros_like(before)
    tiny[7, 7] = True
    for after in (leak, other, tiny):
        assert guarded(before, after, OPTIONS) is None
    grown = np.zeros_like(before)
    grown[4:12, 4:13] = True
    grown[8, 8] = False
    kept = guarded(before, grown, OPTIONS)
    assert kept is not None and kept[8, 8] and kept.sum() == 72
    far = grown.copy()
    far[7, 13:16] = True  # beyond the reach of two voxels
    kept = guarded(before, far, OPTIONS)
    assert kept is not None and kept.sum() == 72


def test_pieces_without_a_seed_are_dropped_and_a_region_never_vanishes() -> None:
    found = np.zeros((3, 20, 20), np.uint8)
    found[1, 2:8, 2:8] = 1
    found[1, 12:18, 12:18] = 2
    seeds = np.zeros(found.shape, bool)
    seeds[1, 3, 3] = seeds[1, 14, 14] = True
    drawn = np.zeros_like(found)
    drawn[1, 2:5, 2:5] = 1
    drawn[1, 3, 3] = 0  # a hole
    drawn[1, 7:9, 7:9] = 1  # holds what was found, and no seed
    drawn[1, 17:19, 17:19] = 2  # so does this, and nothing else is left of the region
    mask = cleaned(drawn, found, seeds)
    assert (mask == 1).sum() == 9 and mask[1, 3, 3] == 1
    assert np.array_equal(mask == 2, found == 2)


def test_small_parts_stay_as_found() -> None:
    found = np.zeros((1, 20, 20), np.uint8)
    found[0, 3, 3:6] = 1
    found[0, 10:14, 10:14] = 2
    draws = Draws(whole_box)
    mask, counts = drawn_by(draws, found)
    assert counts["too_small"] == 1 and [box.target for box in draws.boxes] == [2]
    assert np.array_equal(mask == 1, found == 1)


@pytest.mark.parametrize(("side", "margin"), [(128, 2.0), (256, 2.0), (512, 4.0), (1024, 8.0)])
def test_a_margin_is_of_voxels_or_of_the_networks_image(side: int, margin: float) -> None:
    """MedSAM was trained with boxes up to 20 of 1024 pixels too large: two voxels of a fine matrix are less than any of them."""
    import tomllib

    card = tomllib.loads((CARDS_FOLDER / "medsam.toml").read_text(encoding="utf-8"))
    options = PromptableOptions.model_validate(card["options"])
    assert options.margins((side, side)) == (margin, margin)
    assert options.margins((side, 128)) == (margin, 2.0)
    grown = BoxPrompt(1, 0, 10, 20, 30, 40).grown((margin, 2.0), side, 128)
    assert (grown.top, grown.left, grown.bottom, grown.right) == (10 - margin, 18, 30 + margin, 42)
