"""Pictures are those of the original processors."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from models.generation.pictures import Picture, PictureRecipe, Step, grey_levels, picture_of_grey, qwen_patches
from models.generation.tiling import own_size
from models.volume import Volume

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


def radiograph(rows: int = 90, columns: int = 61) -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.linspace(0, 150, rows), np.linspace(0, 60, columns))
    return (smooth + rng.integers(0, 40, (rows, columns))).astype(np.uint8)


def colours(grey: np.ndarray) -> Image.Image:
    return Image.fromarray(np.repeat(grey[..., None], 3, axis=-1))


def test_llava_pads_with_its_mean_colour() -> None:
    processors = pytest.importorskip("transformers.models.llava.image_processing_pil_llava")
    theirs = processors.LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
    )
    grey = radiograph()
    expected = theirs(colours(grey), return_tensors="np")["pixel_values"]
    background = [int(255 * each) for each in MEAN]
    recipe = PictureRecipe(
        mean=MEAN,
        std=STD,
        steps=(
            Step(step="pad_square", colour=(background[0], background[1], background[2])),
            Step(step="stretch", size=56),
        ),
    )
    assert np.abs(picture_of_grey(grey, recipe).pixels - expected).max() < 2e-2


def test_gemma_stretches() -> None:
    processors = pytest.importorskip("transformers.models.gemma3.image_processing_pil_gemma3")
    grey = radiograph()
    theirs = processors.Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    expected = theirs(colours(grey), return_tensors="np")["pixel_values"]
    recipe = PictureRecipe(mean=HALF, std=HALF, steps=(Step(step="stretch", size=56, filter="pil_bilinear"),))
    assert np.abs(picture_of_grey(grey, recipe).pixels - np.asarray(expected)).max() < 1e-6


def test_qwen_flattens_patches_in_its_order() -> None:
    processors = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    grey = radiograph(84, 56)
    theirs = processors.Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=84 * 56)
    made = theirs(colours(grey), return_tensors="np")
    assert np.asarray(made["image_grid_thw"]).tolist() == [[1, 6, 4]]
    recipe = PictureRecipe(mean=MEAN, std=STD, arrange="patches", grids=((6, 4), (4, 4)))
    picture = picture_of_grey(grey, recipe)
    assert picture.grid == (6, 4)
    assert np.abs(picture.pixels - np.asarray(made["pixel_values"])).max() < 1e-5
    assert qwen_patches(np.zeros((3, 56, 28), np.float32), 14).shape == (8, 1176)


def tile_of(picture: Picture, number: int) -> np.ndarray:
    return picture.pixels[number]


def test_intern_cuts_tiles_and_keeps_a_small_whole() -> None:
    grey = radiograph(60, 120)
    recipe = PictureRecipe(mean=HALF, std=HALF, arrange="tiles", size=28, most_tiles=6)
    picture = picture_of_grey(grey, recipe)
    # Twice as wide as high: two tiles and a small whole one.
    assert picture.pixels.shape == (3, 3, 28, 28)
    whole = np.asarray(colours(grey).resize((56, 28), Image.Resampling.BICUBIC), np.float32)
    small = np.asarray(colours(grey).resize((28, 28), Image.Resampling.BICUBIC), np.float32)
    for number, part in enumerate((whole[:, :28], whole[:, 28:], small)):
        expected = ((part / 255 - 0.5) / 0.5).transpose(2, 0, 1)
        assert np.abs(tile_of(picture, number) - expected).max() < 1e-5


def test_a_point_comes_back_to_its_place() -> None:
    recipe = PictureRecipe(
        mean=HALF,
        std=HALF,
        steps=(
            Step(step="long_side", size=64, filter="cv2_linear"),
            Step(step="pad_centre", size=64),
            Step(step="stretch", size=96),
        ),
    )
    grey = np.zeros((200, 100), np.uint8)
    grey[80:120, 40:60] = 255
    picture = picture_of_grey(grey, recipe)
    lit = np.argwhere(picture.pixels[0, 0] > 0)
    (top, left), (bottom, right) = lit.min(0), lit.max(0) + 1
    found = [*picture.placement.back(left, top), *picture.placement.back(right, bottom)]
    assert np.abs(np.array(found) - [40, 80, 60, 120]).max() < 3
    assert picture.placement.back(48, 48) == pytest.approx((50, 100))


def test_levels_are_those_of_the_range() -> None:
    volume = Volume(np.array([[[100.0, 300.0, 200.0]]], np.float32), np.eye(4), facts={"maximum_value": 400})
    assert grey_levels(volume, "own_range").tolist() == [[0, 255, 128]]
    assert grey_levels(volume, "stored_range").tolist() == [[64, 191, 128]]


@pytest.mark.parametrize(("rows", "columns"), [(90, 61), (61, 90), (300, 340), (20, 30)])
@pytest.mark.parametrize("merge", [1, 2])
def test_hulu_med_keeps_the_size_of_an_image_within_limits(rows: int, columns: int, merge: int) -> None:
    processors = pytest.importorskip("transformers.models.video_llama_3.image_processing_pil_video_llama_3")
    unit = (14 * merge) ** 2
    grey = radiograph(rows, columns)
    theirs = processors.VideoLlama3ImageProcessorPil(
        size={"shortest_edge": 4 * unit, "longest_edge": 100 * unit}, merge_size=merge
    )
    made = theirs(colours(grey), return_tensors="np")
    recipe = PictureRecipe(mean=HALF, std=HALF, arrange="own_size", merge=merge, least_tokens=4, most_tokens=100)
    picture = picture_of_grey(grey, recipe)
    _, high, wide = np.asarray(made["image_grid_thw"])[0].tolist()
    assert (picture.height, picture.width) == (14 * high, 14 * wide)
    assert np.abs(picture.pixels - made["pixel_values"]).max() < 1e-5
    assert picture.places is not None
    assert picture.places.shape == (high * wide // merge**2, merge**2, 2)
    assert picture.places.reshape(-1, 2).max(axis=0).tolist() == [high - 1, wide - 1]
    assert picture.placement.back(picture.width, picture.height) == pytest.approx((columns, rows))


def test_hulu_med_measures_as_its_own_code_does() -> None:
    # Worked through image_processing_hulumed.py by hand: 16 tokens at least, limits of 28 pixels.
    assert own_size(2048, 2500, 14, 16, 16384) == (1610, 1974)
    assert own_size(10, 20, 28, 16, 100) == (84, 168)
    assert own_size(300, 200, 14, 16, 16384) == (294, 196)
