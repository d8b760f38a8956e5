"""A promptable model segments what it is pointed at, in the right voxels, and refuses what it cannot answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.errors import CardInvalid, InferenceFailed, PromptMissing
from models.model import Model
from models.prompts import BoxPrompt, boxes_of
from models.results import Outcome
from models.volume import Volume
from tests.unit.models_promptable.conftest import write_model

SHAPE = (9, 40, 52)


def scene() -> tuple[Volume, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Two bright bodies on a dark ground: a tube through slices 2 to 6, and a block on slice 4 only."""
    tube, block = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    for k in range(2, 7):
        tube[k, 8 + k : 18 + k, 10:22] = True
    block[4, 26:36, 34:48] = True
    values = np.full(SHAPE, 100, np.float32)
    values[tube | block] = 900
    affine = np.diag([1.5, 1.5, 5.0, 1.0])
    return Volume(values, affine), tube, block


def overlap(a: npt.NDArray, b: npt.NDArray) -> float:
    return 2 * float(np.count_nonzero(a & b)) / float(np.count_nonzero(a) + np.count_nonzero(b))


def test_boxes_give_one_region_a_target(known: Model) -> None:
    volume, tube, block = scene()
    labels = np.zeros(SHAPE, np.uint8)
    labels[tube], labels[block] = 1, 2
    result = known.segment({"image": volume}, boxes_of(labels), {})
    assert result.outcome is Outcome.FOUND
    assert result.segmentation is not None
    mask = result.segmentation.mask_zyx
    assert [region.number for region in result.segmentation.regions] == [1, 2]
    # The network sees 64 x 64 stretched pixels: half a pixel at the edges is all that may differ.
    assert overlap(mask == 1, tube) > 0.93
    assert overlap(mask == 2, block) > 0.93
    assert not mask[(volume.array_zyx < 500)].astype(bool).sum() > 0.1 * mask.astype(bool).sum()
    expected = float(np.count_nonzero(mask == 1)) * volume.voxel_ml
    assert result.segmentation.regions[0].volume_ml == pytest.approx(expected)
    assert result.segmentation.probability_zyx is not None
    assert result.segmentation.probability_zyx.max() <= 1.0


def test_one_box_is_followed_to_the_ends_of_the_thing(known: Model) -> None:
    volume, tube, _ = scene()
    prompt = BoxPrompt(1, 4, 12, 10, 21, 21, follow=True)
    result = known.segment({"image": volume}, [prompt], {})
    assert result.segmentation is not None
    mask = result.segmentation.mask_zyx == 1
    assert sorted(np.flatnonzero(mask.any(axis=(1, 2)))) == [2, 3, 4, 5, 6]
    assert overlap(mask, tube) > 0.93


def test_following_ends_where_the_mask_leaks(known: Model) -> None:
    volume, _, _ = scene()
    values = volume.array_zyx.copy()
    values[5:] = 900  # from here on everything is bright: the mask would fill the box and grow with it
    values[5:, 0, 0] = 100
    result = known.segment({"image": Volume(values, volume.affine_lps)}, [BoxPrompt(1, 4, 12, 10, 15, 13, True)], {})
    assert result.segmentation is not None
    sizes = np.count_nonzero(result.segmentation.mask_zyx, axis=(1, 2))
    assert sizes[4] > 0
    assert max(sizes[5:]) <= 4 * sizes[4] * 4
    assert sizes[8] == 0 or sizes[8] < 0.5 * SHAPE[1] * SHAPE[2]


def test_padded_models_put_the_mask_in_the_same_place(tmp_path: Path) -> None:
    padded = Model(write_model(tmp_path / "padded", changes={'fit = "stretch"': 'fit = "pad"'}))
    volume, tube, _ = scene()
    labels = tube.astype(np.uint8)
    result = padded.segment({"image": volume}, boxes_of(labels), {})
    assert result.segmentation is not None
    assert overlap(result.segmentation.mask_zyx == 1, tube) > 0.93


def test_an_empty_box_is_nothing_found(known: Model) -> None:
    volume, _, _ = scene()
    values = volume.array_zyx.copy()
    values[0, 0, 0] = 900
    result = known.segment({"image": Volume(values, volume.affine_lps)}, [BoxPrompt(1, 0, 20, 20, 25, 25)], {})
    assert result.outcome is Outcome.NOTHING_FOUND
    assert result.segmentation is None


@pytest.mark.parametrize(
    "prompt",
    [BoxPrompt(1, 9, 0, 0, 5, 5), BoxPrompt(1, 0, 50, 0, 60, 5), BoxPrompt(255, 0, 0, 0, 5, 5)],
    ids=["slice", "rows", "targets"],
)
def test_boxes_outside_are_refused(known: Model, prompt: BoxPrompt) -> None:
    with pytest.raises(InferenceFailed):
        known.segment({"image": scene()[0]}, [prompt], {})


def test_nothing_to_look_at_is_refused(known: Model) -> None:
    volume = scene()[0]
    with pytest.raises(PromptMissing):
        known.segment({"image": volume}, [], {})
    with pytest.raises(PromptMissing):
        known.run({"image": volume}, {})
    holed = volume.array_zyx.copy()
    holed[0, 0, 0] = np.nan
    with pytest.raises(InferenceFailed):
        known.segment({"image": Volume(holed, volume.affine_lps)}, [BoxPrompt(1, 0, 0, 0, 5, 5)], {})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({'resize = "skimage_cubic"': 'resize = "magic"'}, "no resizer named magic"),
        ({"low = 0.5": "low = 99.9"}, "below high"),
        ({"threshold = 0.5": "threshold = 1.5"}, "options.threshold"),
    ],
)
def test_cards_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(CardInvalid, match=words):
        Model(write_model(tmp_path / "wrong", changes=changes)).segment({"image": scene()[0]}, [], {})


def test_a_decoder_of_points_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "points")
    card = folder / "model.toml"
    text = card.read_text(encoding="utf-8").replace(
        '["image_embeddings", "boxes"]', '["image_embeddings", "input_points"]'
    )
    card.write_text(text, encoding="utf-8")
    with pytest.raises(CardInvalid, match="trained on boxes"):
        Model(folder).segment({"image": scene()[0]}, [BoxPrompt(1, 0, 0, 0, 5, 5)], {})


def test_a_box_is_a_box() -> None:
    with pytest.raises(ValueError, match="ends where it begins"):
        BoxPrompt(1, 0, 5, 5, 4, 6)
    grown = BoxPrompt(1, 0, 1, 1, 8, 8).grown(3, 10, 10)
    assert (grown.top, grown.left, grown.bottom, grown.right) == (0, 0, 9, 9)
