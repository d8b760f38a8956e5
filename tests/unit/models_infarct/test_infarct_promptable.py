"""The small box network of the four-row table: it learns from the boxes and slices the node would give it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.export import infarct_promptable as trial
from models.export.infarct_implants import Head, implanted
from models.export.infarct_table import oracle_finder
from models.model import Model
from models.phantom import make_phantom
from models.prompts import boxes_of


@pytest.fixture(scope="module")
def sick() -> Head:
    made = make_phantom(3, shape_zyx=(20, 64, 64), spacing_mm_zyx=(7.0, 3.0, 3.0), lesions=[], noise=0.03)
    head = Head("phantom", made.dwi, made.adc, made.brain_zyx, np.zeros_like(made.brain_zyx))
    return implanted(head, np.random.default_rng(1), 60.0)


def test_slices_hold_each_part_in_its_box(sick: Head) -> None:
    slices = trial.slices_of(sick)
    parts = [box for box in boxes_of(sick.truth_zyx.astype(np.uint8))]
    assert 3 < len(slices) <= len({box.slice_index for box in parts})
    side = 4 * trial.SHAPE.grid
    for each in slices:
        assert each.image.shape == (trial.SHAPE.image_size,) * 2
        assert each.image.min() >= 0 and each.image.max() <= 1
        for (left, top, right, bottom), mask in zip(
            each.boxes * side / trial.SHAPE.image_size, each.masks, strict=True
        ):
            rows, columns = np.nonzero(mask)
            assert left <= columns.min() and columns.max() <= right + 1
            assert top <= rows.min() and rows.max() <= bottom + 1


def test_a_flipped_slice_takes_its_boxes_with_it(sick: Head) -> None:
    batches = trial.Batches(trial.slices_of(sick), 5)
    _, boxes, masks = batches.next()
    side, reach = 4 * trial.SHAPE.grid, 4
    for corners, truth in zip(boxes, masks, strict=True):
        for (left, top, right, bottom), mask in zip(
            corners[:, 0] * side / trial.SHAPE.image_size, truth[:, 0], strict=True
        ):
            rows, columns = np.nonzero(mask.numpy())
            assert left - reach < columns.min() and columns.max() < right + reach
            assert top - reach < rows.min() and rows.max() < bottom + reach


@pytest.mark.slow
def test_training_is_deterministic_and_leaves_a_model_that_draws_in_boxes(sick: Head, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    slices = trial.slices_of(sick)
    (sam, log), (_, again) = (trial.train(slices, 4, 2) for _ in range(2))
    assert [each["loss"] for each in log] == [each["loss"] for each in again]
    folder = tmp_path / "medsam"
    folder.mkdir()
    card = trial.write_model(sam, folder)
    assert "not MedSAM" in card.name
    assert card.manufacturer == "The ainode authors"
    model = Model(folder, threads=1)
    model.verify()
    assert model.reference({}).name == card.name
    found = oracle_finder(model)(sick)
    assert found is not None
    assert found.shape == sick.truth_zyx.shape
