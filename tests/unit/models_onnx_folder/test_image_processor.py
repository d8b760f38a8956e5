"""A processor's configuration gives the image that transformers' own processor makes of it; what is not exact is refused."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointMismatch
from models.export.image_processor import network_image_of
from models.pillow import WHOLE_LEVELS
from models.projection_input import ProjectionInput, network_image, placement
from models.volume import Volume

pytest.importorskip("transformers", reason="the reference is transformers' own")
Image = pytest.importorskip("PIL.Image", reason="the reference resizes with Pillow")

SQUARE = {"height": 40, "width": 40}
CASES: dict[str, dict[str, Any]] = {
    "ViT": {"size": SQUARE},
    "ViT nearest": {"size": 40, "resample": 0},
    "ViT lanczos": {"size": SQUARE, "resample": 1, "do_normalize": False},
    "ViT factor": {"size": SQUARE, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
    "ViT levels": {"size": SQUARE, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3},
    "DeiT": {"size": {"height": 47, "width": 47}, "crop_size": SQUARE},
    "CLIP": {"size": {"shortest_edge": 40}, "crop_size": SQUARE},
    "CLIP larger": {"size": 51, "crop_size": 40},
    "Bit": {"size": {"shortest_edge": 45}, "crop_size": SQUARE},
    "Siglip": {"size": SQUARE, "do_convert_rgb": True},
    "ConvNext": {"size": {"shortest_edge": 40}, "crop_pct": 0.875},
    "ConvNext stretched": {"size": {"shortest_edge": 384}, "resample": 2},
    "Segformer": {"size": SQUARE, "do_reduce_labels": True},
}


def reference(case: str, picture: Any) -> np.ndarray:
    """Made by the processor itself, on Pillow."""
    name = case.split()[0]
    module = importlib.import_module(f"transformers.models.{name.lower()}.image_processing_pil_{name.lower()}")
    processor = getattr(module, f"{name}ImageProcessorPil")(**CASES[case])
    return np.asarray(processor(picture, return_tensors="np")["pixel_values"])


def picture(kind: str) -> tuple[Volume, Any]:
    """A radiograph 113 wide and 90 high, or a photograph 204 wide and 77 high: odd margins."""
    rng = np.random.default_rng(7)
    shape = (90, 113) if kind == "grey" else (77, 204, 3)
    coarse = rng.integers(0, 256, (shape[0] // 6 + 1, shape[1] // 6 + 1, *shape[2:]), np.uint8)
    levels = np.kron(coarse, np.ones((6, 6) + (1,) * (len(shape) - 2), np.uint8))[: shape[0], : shape[1]]
    levels = (levels // 2 + rng.integers(0, 128, shape, np.uint8)).astype(np.uint8)
    facts = {"maximum_value": 255}
    if kind == "grey":
        return Volume(levels[None].astype(np.float32), np.eye(4), facts=facts), Image.fromarray(levels).convert("RGB")
    grey = levels.mean(-1)[None].astype(np.float32)
    colour = np.ascontiguousarray(levels.transpose(2, 0, 1))
    return Volume(grey, np.eye(4), facts=facts, colour=colour), Image.fromarray(levels)


@pytest.mark.parametrize("kind", ["grey", "colour"])
@pytest.mark.parametrize("case", CASES)
def test_images_equal_the_processors(case: str, kind: str) -> None:
    volume, shown = picture(kind)
    table = network_image_of({"image_processor_type": f"{case.split()[0]}ImageProcessorFast", **CASES[case]}, 3)
    recipe = ProjectionInput.model_validate({"levels": "stored_range", **table})
    made, wanted = network_image(volume, recipe), reference(case, shown)
    assert made.shape == wanted.shape and made.dtype == np.float32
    away = np.abs(made - wanted)
    # Every pixel: a grey level more or less would show.
    level = (recipe.high - recipe.low) / 255 / max(recipe.deviation or (1.0,))
    assert away.max() < 1e-3 * level


@pytest.mark.parametrize("name", ["nearest", "lanczos", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 40), (31, 105), (300, 100), (204, 20)])
def test_resizing_equals_pillows_along_the_rows_first(name: str, size: tuple[int, int]) -> None:
    tall = np.random.default_rng(3).integers(0, 256, (204, 77), np.uint8)
    code = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}[name]
    # In two calls, because Pillow 13 begins with the other axis where that is cheaper.
    along = Image.fromarray(tall).resize((size[1], tall.shape[0]), code)
    wanted = np.asarray(along.resize((size[1], size[0]), code))
    assert np.array_equal(WHOLE_LEVELS[f"pillow_{name}"](tall, size), wanted)


def test_a_stretched_image_finds_its_way_back() -> None:
    table = network_image_of({"image_processor_type": "DeiTImageProcessor", "size": 48, "crop_size": 40}, 3)
    place = placement((96, 24), ProjectionInput.model_validate(table))
    assert (place.top, place.left, place.rows, place.columns) == (8.0, 2.0, 80.0, 20.0)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, "image_processor_type"),
        ({"image_processor_type": "MyOwnProcessor"}, "image_processor_type"),
        ({"image_processor_type": "EfficientNetImageProcessor"}, "image_processor_type"),
        ({"do_pad": True}, "do_pad"),
        ({"auto_map": {"AutoImageProcessor": "mine.Mine"}}, "auto_map"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"rescale_offset": True}, "rescale_offset"),
        ({"do_resize": False}, "do_resize"),
        ({"resample": 4}, "resample"),
        ({"resample": True}, "resample"),
        ({"size": {"height": 32, "width": 48}}, "size"),
        ({"size": {"longest_edge": 512}}, "size"),
        ({"size": {"shortest_edge": 224}}, "size"),
        ({"size": 32, "do_center_crop": True, "crop_size": 64}, "crop_size"),
        ({"size": 32, "do_center_crop": True}, "crop_size"),
        ({"crop_pct": 0.9}, "crop_pct"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"image_std": ["a"]}, "image_std"),
        ({"data_format": "channels_last"}, "data_format"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"height": 9, "width": 9}}, "size"),
    ],
)
def test_what_is_not_exact_is_refused_by_its_name(given: dict[str, Any], key: str) -> None:
    base = {"image_processor_type": "ViTImageProcessor"} if given else {}
    with pytest.raises(CheckpointMismatch, match=rf"preprocessor_config\.json: {key} = "):
        network_image_of({**base, **given}, 3)


def test_colours_for_a_grey_network_are_refused() -> None:
    given = {"image_processor_type": "ViTImageProcessor", "image_mean": 0.5, "image_std": [0.25]}
    assert network_image_of({**given, "do_pad": False, "device": None}, 1)["mean"] == [0.5]
    with pytest.raises(CheckpointMismatch, match="do_convert_rgb"):
        network_image_of({**given, "do_convert_rgb": True}, 1)
