"""Limits of a card: kept to for each study, and named where they are not met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import OutsideLimits, Refused
from models.registry import Registry
from models.results import Outcome
from models.volume import Volume


def _image(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), **facts: float | str) -> Volume:
    array = np.zeros((12, 16, 16), np.float32)
    array[2, 2, 1:4] = 100.0
    return Volume(array, np.diag([spacing[2], spacing[1], spacing[0], 1.0]), facts=facts)


def _limited(catalogue: Path, lines: str) -> Registry:
    path = catalogue / "spots" / "model.toml"
    path.write_text(path.read_text(encoding="utf-8") + f"\n[limits]\n{lines}\n", encoding="utf-8")
    return Registry([catalogue])


@pytest.mark.parametrize(
    ("lines", "image", "words"),
    [
        ("age_years = [18, 120]", _image(patient_age_years=12.0), "patient's age (12 years"),
        ("field_strength_t = [1.5, 3.0]", _image(field_strength_t=0.55), "field strength (0.55 T"),
        ("slice_spacing_mm = [0, 5]", _image((6.5, 1, 1)), "between slices (6.5 mm"),
        ("pixel_spacing_mm = [0.3, 1.2]", _image((1, 1, 2)), "between pixels (2 mm"),
        ("coverage_mm = [80, 400]", _image((4, 1, 1)), "extent of the slices (48 mm"),
        ('contrast = { image = "without" }', _image(contrast="with"), "made with contrast agent"),
        ('contrast = { image = "with" }', _image(contrast="without"), "made without contrast agent"),
    ],
)
def test_each_limit_is_named_in_the_refusal(spots: Path, lines: str, image: Volume, words: str) -> None:
    model = _limited(spots, lines).get("bright-spots")
    with pytest.raises(OutsideLimits) as caught:
        model.run({"image": image}, {})
    assert words in caught.value.message and isinstance(caught.value, Refused)
    assert caught.value.detail["limit"] == lines.split()[0]


def test_bounds_are_within_and_what_is_not_stated_is_said(spots: Path) -> None:
    registry = _limited(spots, "age_years = [18, 120]\nfield_strength_t = [1.5, 3.0]\nslice_spacing_mm = [1, 5]")
    result = registry.get("bright-spots").run({"image": _image((5.001, 1, 1), field_strength_t=1.5)}, {})
    assert result.outcome is Outcome.FOUND
    assert result.evidence["limits_not_checked"] == ["age_years"]


def test_a_card_may_need_to_know(spots: Path) -> None:
    model = _limited(spots, 'age_years = [18, 120]\nunknown = "refuse"').get("bright-spots")
    with pytest.raises(OutsideLimits, match="not stated"):
        model.run({"image": _image()}, {})
    assert "limits_not_checked" not in model.run({"image": _image(patient_age_years=40.0)}, {}).evidence


def test_contrast_that_is_not_stated_is_said_or_refused(spots: Path) -> None:
    limited = _limited(spots, 'contrast = { image = "without" }').get("bright-spots")
    assert limited.run({"image": _image()}, {}).evidence["limits_not_checked"] == ["contrast"]
    assert "limits_not_checked" not in limited.run({"image": _image(contrast="without")}, {}).evidence


def test_a_card_may_need_to_know_of_contrast(spots: Path) -> None:
    limited = _limited(spots, 'contrast = { image = "with" }\nunknown = "refuse"').get("bright-spots")
    with pytest.raises(OutsideLimits, match="contrast agent was given is not stated"):
        limited.run({"image": _image()}, {})


def test_nonsense_is_seen_when_the_card_is_read(spots: Path) -> None:
    assert "no such input: dwi" in _limited(spots, 'contrast = { dwi = "with" }').problems["spots"].message


def test_bounds_in_the_wrong_order_are_seen_when_the_card_is_read(spots: Path) -> None:
    assert "lower bound" in _limited(spots, "age_years = [120, 18]").problems["spots"].message
