"""The network's image is the one the original's own libraries make, by the recipe of the card that ships."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from models.export.imported import CARDS_FOLDER
from models.phrases_general_ja import TERMS
from models.projection_input import ProjectionInput, network_image, placement
from models.volume import Volume

REFERENCES = np.load(Path(__file__).with_name("pictures.npz"))
"""Made by ``tests/generators/picture_references.py`` with Pillow 13 and torch 2.13."""
CARD_OF = {"medclip": "medclip", "clip": "biomedclip", "flair": "flair", "medsiglip": "medsiglip"}


def recipe_of(model: str) -> ProjectionInput:
    """The card's own recipe, at the references' size."""
    options = tomllib.loads((CARDS_FOLDER / f"{CARD_OF[model]}.toml").read_text(encoding="utf-8"))["options"]["image"]
    size = {"size": 56} | ({"short_side": 56} if options["crop"] == "short_side" else {})
    return ProjectionInput.model_validate(options | size)


def volume_of(name: str) -> Volume:
    image = REFERENCES[name]
    facts = {"maximum_value": 255}
    if image.ndim == 2:
        return Volume(image[None].astype(np.float32), np.eye(4), facts=facts)
    grey = image.mean(-1)[None].astype(np.float32)
    return Volume(grey, np.eye(4), facts=facts, colour=np.ascontiguousarray(image.transpose(2, 0, 1)))


@pytest.mark.parametrize("name", [name for name in REFERENCES.files if " " in name])
def test_images_equal_the_originals(name: str) -> None:
    model, source = name.split()
    recipe = recipe_of(model)
    made = network_image(volume_of(source), recipe)
    assert made.shape == (1, 3, 56, 56) and made.dtype == np.float32
    away = np.abs(made[0] - REFERENCES[name])
    if model in ("medclip", "clip"):
        # Pillow computes with 22 bits: a tie may fall to the other side, one grey level, at a pixel or two.
        level = 1 / 255 / min(recipe.deviation)
        assert away.max() < 1.01 * level
        assert (away > 1e-4).mean() < 0.001
    else:
        assert away.max() < 2e-4


def test_channels_of_a_photograph_keep_their_order() -> None:
    volume = volume_of("colour")
    made = network_image(volume, recipe_of("flair"))
    assert volume.colour is not None
    shown = [float(volume.colour[n].mean()) for n in range(3)]
    assert np.argsort(made[0].mean((1, 2))).tolist() == np.argsort(shown).tolist()


@pytest.mark.parametrize("crop", ["short_side", "pad_square", "long_side", "none", "centre_square"])
def test_a_bright_spot_lies_where_the_placement_says(crop: str) -> None:
    recipe = ProjectionInput(
        size=64, crop=crop, short_side=64 if crop == "short_side" else 0, resize="bilinear_antialias"
    )
    image = np.zeros((1, 200, 260), np.float32)
    image[0, 96:104, 126:134] = 255
    made = network_image(Volume(image, np.eye(4), facts={"maximum_value": 255}), recipe)[0, 0]
    row, column = (int(n) for n in np.unravel_index(made.argmax(), made.shape))
    place = placement((200, 260), recipe)
    assert place.top + (row + 0.5) * place.rows / 64 == pytest.approx(100, abs=5)
    assert place.left + (column + 0.5) * place.columns / 64 == pytest.approx(130, abs=5)


def test_what_the_cards_find_has_a_japanese_name() -> None:
    for path in CARDS_FOLDER.glob("*.toml"):
        card = tomllib.loads(path.read_text(encoding="utf-8"))
        if card["family"] == "image_text":
            for entry in card["options"]["classes"]:
                if not entry.get("background"):
                    assert entry["concept"]["meaning"] in TERMS, path.name
