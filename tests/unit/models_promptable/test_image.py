"""Grey levels and sizes are those of the libraries the models were trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.intensity import Percentile, Window, as_grey_levels, to_unit_range
from models.resizing import RESIZERS

REFERENCES = np.load(Path(__file__).with_name("resized.npz"))
"""Made by ``tests/generators/resized_references.py`` with scikit-image 0.26, Pillow 12, OpenCV 4.13 and torch 2.13."""


@pytest.mark.parametrize("name", [name for name in REFERENCES.files if name != "image"])
def test_resizers_equal_their_library(name: str) -> None:
    resizer, size = name.split()
    rows, columns = (int(n) for n in size.split("x"))
    made = RESIZERS[resizer](REFERENCES["image"], (rows, columns))
    assert made.dtype == np.float32
    assert np.abs(made - REFERENCES[name]).max() < 2e-4


def test_every_resizer_has_a_reference() -> None:
    assert {name.split()[0] for name in REFERENCES.files if name != "image"} == set(RESIZERS)


def test_channels_are_resized_each_for_itself() -> None:
    image = REFERENCES["image"]
    for resizer in RESIZERS.values():
        both = resizer(np.stack([image, image[::-1]]), (16, 24))
        assert np.allclose(both[0], resizer(image, (16, 24)), atol=1e-3)


def test_percentiles_are_of_positive_voxels_and_zero_stays_zero() -> None:
    values = np.zeros((2, 10, 10), np.float32)
    values[1] = np.arange(1, 101, dtype=np.float32).reshape(10, 10)
    grey = as_grey_levels(values, Percentile(kind="percentile", low=10, high=90))
    low, high = np.percentile(np.arange(1, 101), [10, 90])
    expected = np.uint8((np.clip(values, low, high) - low) / (high - low) * 255)
    expected[values == 0] = 0
    assert (grey == expected).all()
    assert grey[1].max() == 255


def test_window_in_hounsfield_units() -> None:
    values = np.array([[[-1000, -160, 40, 240, 3000]]], np.float32)
    grey = as_grey_levels(values, Window(kind="window", centre=40, width=400))
    assert grey.ravel().tolist() == [0, 0, 127, 255, 255]


def test_flat_images_are_black_not_nan() -> None:
    flat = np.full((1, 4, 4), 7, np.float32)
    assert not as_grey_levels(flat, Percentile(kind="percentile")).any()
    assert not as_grey_levels(np.zeros((1, 4, 4), np.float32), Percentile(kind="percentile")).any()
    assert not to_unit_range(flat[0]).any()
