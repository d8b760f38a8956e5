"""Volumes of any plane and direction come to the network the same way round, and its answer back."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from models.dense.orientation import axes_of, turning

SHAPE = (3, 4, 5)


def affine(axes: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    """Column, row, slice along these patient axes."""
    made = np.eye(4)
    made[:3, :3] = 0
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        made[axis, column] = sign * (1 + column)
    return made


def positions(matrix: np.ndarray) -> np.ndarray:
    """Patient coordinates (z, y, x, 3) of every voxel."""
    z, y, x = np.indices(SHAPE)
    return np.stack([x, y, z, np.ones(SHAPE)], -1) @ matrix.T[:, :3]


@pytest.mark.parametrize("letters", ["RAS", "LPS", "PIR", "SAR"])
@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_every_plane_and_direction(letters: str, axes: tuple[int, ...]) -> None:
    for signs in product((1, -1), repeat=3):
        matrix = affine(axes, signs)
        turned = turning(matrix, letters)
        where = np.stack([turned.apply(positions(matrix)[..., n]) for n in range(3)], -1)
        for name, (axis, sign) in zip("xyz", axes_of(letters), strict=True):
            along = np.moveaxis(where[..., axis], {"z": 0, "y": 1, "x": 2}[name], 0)
            assert (np.diff(along, axis=0) * sign > 0).all()
            others = np.diff(where[..., [n for n in range(3) if n != axis]], axis={"z": 0, "y": 1, "x": 2}[name])
            assert np.abs(others).max(initial=0) == 0
        image = np.arange(60).reshape(SHAPE)
        assert np.array_equal(turned.undo(turned.apply(image)), image)
        assert turned.spacing((3.0, 2.0, 1.0)) == tuple((3.0, 2.0, 1.0)[axis] for axis in turned.axes)


def test_transposed_axes_are_flipped_all_the_same() -> None:
    matrix = affine((0, 1, 2), (1, 1, 1))
    plain, swapped = turning(matrix, "RAS"), turning(matrix, "RAS", (2, 1, 0))
    image = np.arange(60).reshape(SHAPE)
    assert np.array_equal(swapped.apply(image), plain.apply(image).transpose(2, 1, 0))
    assert np.array_equal(swapped.undo(swapped.apply(image)), image)


def test_an_oblique_volume_goes_to_the_nearest_axes() -> None:
    angle = np.deg2rad(35)
    matrix = affine((0, 1, 2), (-1, -1, 1))
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert turning(turn @ matrix, "RAS") == turning(matrix, "RAS")


@pytest.mark.parametrize("letters", ["RA", "RAX", "RRS", "RLS", "ras"])
def test_what_names_no_orientation_is_refused(letters: str) -> None:
    with pytest.raises(ValueError, match="orientation"):
        axes_of(letters)
