"""What nnU-Net v2 and MONAI make of the same image, stored (tests/generators/dense_references.py), is what is made here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models.dense.channels import box_of, nonzero_mask, normalised
from models.dense.options import Channel, Window
from models.dense.resampling import coarse_axis, new_shape, point_shape, resized, sampled
from models.dense.sliding_window import slide, starts, weights
from models.errors import InferenceFailed

SPACINGS = {
    "isotropic": ((1.0, 0.8, 0.9), (1.5, 1.5, 1.5)),
    "thick": ((5.0, 0.8, 0.8), (2.5, 1.0, 1.0)),
    "to_thick": ((1.0, 1.0, 1.0), (4.0, 1.2, 0.9)),
}
LENGTHS = ((20, 16), (41, 16), (64, 24), (16, 16), (100, 48))


@pytest.mark.parametrize("name", SPACINGS)
@pytest.mark.parametrize("order", [3, 1])
def test_resampling_is_nnunets(references: dict, name: str, order: int) -> None:
    old, new = SPACINGS[name]
    image = references["image"]
    shape = new_shape(image.shape, old, new)
    assert list(shape) == references[f"shape {name}"].tolist()
    apart = coarse_axis(old, new)
    assert (apart is None) == (name == "isotropic")
    made = resized(image, shape, order=order, apart=apart)
    assert np.abs(made - references[f"resampled {name} {order}"]).max() < 1e-3 * np.ptp(image) / 100


@pytest.mark.parametrize("name", SPACINGS)
def test_spacing_is_monais(references: dict, name: str) -> None:
    old, new = SPACINGS[name]
    image, theirs = references["image"], references[f"spaced {name}"]
    shape = point_shape(image.shape, old, new)
    assert shape == theirs.shape
    made = sampled(image, shape, [b / a for a, b in zip(old, new, strict=True)])
    assert np.abs(made - theirs).max() < 1e-4 * np.ptp(image)
    back = references[f"spaced back {name}"]
    again = sampled(theirs, back.shape, [a / b for a, b in zip(old, new, strict=True)])
    assert np.abs(again - back).max() < 1e-4 * np.ptp(image)


@pytest.mark.parametrize("kind", ["zscore", "zscore_mask", "clip_standardise", "own_range"])
def test_normalisation_is_nnunets(references: dict, kind: str) -> None:
    image = references["image"]
    shifted = image - 600 if kind == "clip_standardise" else image
    numbers = {"low": -900, "high": 300, "mean": 40, "spread": 120} if kind == "clip_standardise" else {}
    made = normalised(shifted[None], [Channel(role="x", normalise=kind, **numbers)], image != 0)[0]
    assert np.abs(made - references[kind]).max() < 1e-5


@pytest.mark.parametrize(("length", "window"), LENGTHS)
@pytest.mark.parametrize("rule", ["nnunet", "monai"])
def test_windows_start_where_theirs_do(references: dict, length: int, window: int, rule: str) -> None:
    theirs = sorted(set(references[f"{rule} starts {length} {window}"].tolist()))
    assert sorted(set(starts(length, window, 0.5, rule))) == theirs


@pytest.mark.parametrize("rule", ["nnunet", "monai"])
def test_weights_are_theirs(references: dict, rule: str) -> None:
    assert np.abs(weights((8, 12, 10), "gaussian", rule) - references[f"{rule} weights"]).max() < 1e-6


def uneven(window: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    ramps = [
        np.linspace(-1, 1, n).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, n in enumerate(window.shape[2:])
    ]
    return np.concatenate([window * (1 + ramps[0] + ramps[2]), window**2 * ramps[1]], axis=1).astype(np.float32)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_sliding_is_monais(references: dict, blend: str) -> None:
    made = slide(references["image"][None], uneven, Window(size=(8, 24, 10), blend=blend, rule="monai"))
    theirs = references[f"monai slid {blend}"]
    assert made.shape == theirs.shape
    assert np.abs(made - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_a_network_of_one_slice_sees_every_slice() -> None:
    image = np.random.default_rng(0).normal(size=(1, 3, 20, 30)).astype(np.float32)
    made = slide(image, lambda window: np.concatenate([window, -window], axis=1), Window(size=(16, 16)))
    assert np.allclose(made, np.concatenate([image, -image]), atol=1e-5)


def test_a_network_that_changes_the_size_is_refused() -> None:
    with pytest.raises(InferenceFailed, match="answer of shape"):
        slide(np.zeros((1, 8, 8, 8), np.float32), lambda window: window[..., :-1], Window(size=(8, 8, 8)))


def test_the_margin_of_zeros_is_cut() -> None:
    image = np.zeros((2, 6, 7, 8), np.float32)
    image[1, 2:4, 3:6, 1:5] = 1
    image[1, 3, 4, 2] = 0
    mask = nonzero_mask(image)
    assert box_of(mask) == (slice(2, 4), slice(3, 6), slice(1, 5))
    assert mask.sum() in (2 * 3 * 4, 2 * 3 * 4 - 1)
    with pytest.raises(InferenceFailed, match="nothing but zeros"):
        box_of(nonzero_mask(np.zeros((1, 4, 4, 4), np.float32)))
