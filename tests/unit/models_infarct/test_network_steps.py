"""The steps of a network that stands on rules: arrays go to its grid and come back; what the rules have not founded goes."""

from __future__ import annotations

import numpy as np
import pytest

from models.candidates import Candidate
from models.network_steps import (
    NetworkGrid,
    drop_unfounded,
    network_image,
    network_probability,
    paint_candidates,
)
from models.phantom import plane_directions
from models.volume import Volume
from models.workspace import Workspace

FINEST, MULTIPLE = (2.0, 1.5, 1.5), (4, 8, 8)


def workspace(plane: str = "axial", spacing: tuple[float, float, float] = (5.0, 2.0, 2.0)) -> Workspace:
    """A ball of a brain in which every voxel has its own value."""
    shape = (14, 30, 26)
    affine = np.eye(4)
    affine[:3, :3] = plane_directions(plane) * np.array(spacing[::-1])
    z, y, x = np.indices(shape)
    brain = ((z - 6) / 5) ** 2 + ((y - 14) / 11) ** 2 + ((x - 12) / 9) ** 2 < 1
    values = (z * 1000 + y * 30 + x).astype(np.float32) / 14000
    made = Workspace(Volume(values, affine, "1", {"modality": "MR"}), {}, {"peak": 0.9}, lambda name: None)
    made.arrays |= {"brain": brain, "one": values, "prior": np.zeros(shape, np.float32)}
    return made


def image(made: Workspace) -> np.ndarray:
    network_image(made, arrays=["one", "prior"], low=[0.0, -1.0], high=[1.0, 1.0], finest_mm=FINEST, multiple=MULTIPLE)
    return made.array("image")


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_what_goes_to_the_network_comes_back_voxel_by_voxel(plane: str) -> None:
    made = workspace(plane, (5.0, 5.0, 5.0))
    sent = image(made)
    assert sent.shape[:2] == (1, 2) and all(n % k == 0 for n, k in zip(sent.shape[2:], MULTIPLE, strict=True))
    # An untouched channel as the answer: its sigmoid, on the very voxels it came from, and nothing outside the brain.
    made.arrays["logits"] = sent[:, :1]
    network_probability(made, output="probability", finest_mm=FINEST, multiple=MULTIPLE)
    brain = made.mask("brain")
    expected = 1 / (1 + np.exp(1 - 2 * made.array("one")))
    assert np.allclose(made.array("probability")[brain], expected[brain], atol=1e-6)
    assert not made.array("probability")[~brain].any()


def test_only_voxels_finer_than_the_card_allows_are_made_coarser() -> None:
    fine = workspace(spacing=(4.0, 0.75, 0.75))
    grid = NetworkGrid.of(fine, FINEST, MULTIPLE)
    sizes = [side.stop - side.start for side in grid.box]
    assert grid.shape == (sizes[0], round(sizes[1] / 2), round(sizes[2] / 2))
    there = grid.there(fine.array("one"))
    back = grid.back(there, fine.array("one").shape)
    inside = fine.mask("brain")
    assert np.abs(back - fine.array("one"))[inside].max() < 0.01


def test_outside_the_brain_the_image_is_empty_and_the_mask_stays_a_mask() -> None:
    made = workspace()
    made.candidates = [Candidate((slice(5, 7), slice(13, 15), slice(11, 13)), np.ones((2, 2, 2), bool), 8)]
    paint_candidates(made, output="prior")
    assert made.candidates == [] and np.count_nonzero(made.array("prior")) == 8
    sent = image(made)
    assert set(np.unique(sent[0, 1])) == {0.0, 1.0} and np.count_nonzero(sent[0, 1]) == 8
    brain = NetworkGrid.of(made, FINEST, MULTIPLE).there(made.mask("brain").astype(np.float32))
    assert not sent[0, :, brain == 0].any()


def founded(prior: bool) -> list[int]:
    """Which of four parts stay: one with a voxel of the prior, a sure and an unsure one near it, a sure one far away."""
    made = workspace()
    boxes = [(slice(5, 6), slice(8, 10), slice(a, a + 2)) for a in (3, 8, 13, 22)]
    likely = np.zeros_like(made.array("one"))
    for box, peak in zip(boxes, (0.6, 0.95, 0.85, 0.95), strict=True):
        likely[box] = peak
        made.candidates.append(Candidate(box, np.ones((1, 2, 2), bool), 4))
    made.arrays["probability"] = likely
    made.arrays["prior"][boxes[0]][0, 1, 1] = prior
    drop_unfounded(made, prior="prior", probability="probability", peak="peak", reach_mm=25.0)
    assert made.rejected == {"unfounded": 4 - len(made.candidates)}
    return [boxes.index(each.box) for each in made.candidates]


def test_parts_that_the_rules_did_not_find_stay_only_near_what_they_did_and_when_sure() -> None:
    assert founded(prior=True) == [0, 1]


def test_where_the_rules_find_nothing_nothing_stays() -> None:
    assert founded(prior=False) == []
