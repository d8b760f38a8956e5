"""Outlines of masks: along pixel edges, with holes, and back to the same mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from dicom_sr.contours import Polygon, filled, keyhole, outlines


def drawn(*rows: str) -> npt.NDArray[np.bool_]:
    return np.array([[c == "#" for c in row] for row in rows])


def corners(polygon: Polygon) -> list[list[float]]:
    return polygon.outer.tolist()


def area(ring: npt.NDArray[np.float64]) -> float:
    """Positive when clockwise on a screen."""
    y, x = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_a_pixel_is_its_four_edges() -> None:
    (polygon,) = outlines(drawn("...", "..#"))
    assert corners(polygon) == [[0.5, 1.5], [0.5, 2.5], [1.5, 2.5], [1.5, 1.5]]
    assert polygon.holes == ()


def test_no_corner_on_a_straight_line() -> None:
    (polygon,) = outlines(drawn("###", "#.."))
    assert corners(polygon) == [[-0.5, -0.5], [-0.5, 2.5], [0.5, 2.5], [0.5, 0.5], [1.5, 0.5], [1.5, -0.5]]


def test_hole_and_island_in_it() -> None:
    ring, island = outlines(drawn("#####", "#...#", "#.#.#", "#...#", "#####"))
    assert len(ring.holes) == 1
    assert not island.holes
    assert area(ring.outer) == 25
    assert area(ring.holes[0]) == -9
    assert area(island.outer) == 1


def test_diagonal_pixels_are_parts_of_their_own() -> None:
    for mask in (drawn("#.", ".#"), drawn(".#", "#.")):
        parts = outlines(mask)
        assert [len(part.outer) for part in parts] == [4, 4]


def test_holes_that_touch_at_a_corner_are_two_holes() -> None:
    (polygon,) = outlines(drawn("####", "#.##", "##.#", "####"))
    assert sorted(area(hole) for hole in polygon.holes) == [-1, -1]


def test_loop_closed_at_a_corner_has_a_hole() -> None:
    (polygon,) = outlines(drawn("##.", "#.#", "###"))
    assert [area(hole) for hole in polygon.holes] == [-1]
    assert area(polygon.outer) == 8


def test_empty_and_wrong_masks() -> None:
    assert outlines(np.zeros((4, 5), bool)) == []
    with pytest.raises(ValueError, match="two axes"):
        outlines(np.zeros((2, 3, 4), bool))


@pytest.mark.parametrize("density", [0.1, 0.4, 0.5, 0.6, 0.9])
def test_outlines_and_keyholes_fill_to_the_mask(density: float) -> None:
    generator = np.random.default_rng(int(density * 10))
    for _ in range(40):
        shape = tuple(generator.integers(1, 24, 2))
        mask = generator.random(shape) < density
        polygons = outlines(mask)
        assert len(polygons) == ndimage.label(mask)[1]
        rings = [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]
        assert all(len(ring) == len(np.unique(ring, axis=0)) for ring in rings)
        assert all(area(polygon.outer) > 0 for polygon in polygons)
        assert all(area(hole) < 0 for polygon in polygons for hole in polygon.holes)
        assert sum(area(ring) for ring in rings) == mask.sum()
        assert np.array_equal(filled(rings, mask.shape), mask)
        joined = [keyhole(polygon) for polygon in polygons]
        assert np.array_equal(filled(joined, mask.shape), mask)
        assert np.array_equal(filled([ring[:, ::-1] for ring in joined], mask.T.shape), mask.T)


def test_filling_agrees_with_the_definition_for_slanted_rings() -> None:
    triangle = np.array([[0.2, 0.4], [7.7, 3.1], [2.3, 9.6]])
    made = filled([triangle], (9, 11))
    for row, column in np.ndindex(made.shape):
        sides = [
            (b[0] - a[0]) * (column - a[1]) - (b[1] - a[1]) * (row - a[0])
            for a, b in zip(triangle, np.roll(triangle, -1, axis=0), strict=True)
        ]
        assert made[row, column] == (all(s > 0 for s in sides) or all(s < 0 for s in sides))


def test_large_mask_is_quick() -> None:
    y, x = np.ogrid[:512, :512]
    mask = ((y - 256) ** 2 + (x - 256) ** 2 < 200**2) & ((y - 200) ** 2 + (x - 256) ** 2 > 50**2)
    (polygon,) = outlines(mask)
    assert len(polygon.holes) == 1
    assert np.array_equal(filled([keyhole(polygon)], mask.shape), mask)
