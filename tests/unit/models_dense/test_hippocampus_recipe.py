"""The recipe of the hippocampus network: what it trains on, what it holds back, and what it leaves for the converter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from models.export.nnunet import described  # noqa: E402
from models.export.nnunet_network import NnUNet  # noqa: E402
from models.export.nnunet_plans import read_plans  # noqa: E402
from models.export.train_hippocampus import (  # noqa: E402
    BATCH,
    CONFIGURATION,
    PATCH,
    Batches,
    Case,
    loss_of,
    read_cases,
    split,
    write_plans,
)


def test_the_cases_are_read_in_place_and_split_once_for_all(shared_data: Path) -> None:
    cases = read_cases(shared_data / "nifti_hippocampus_msd")
    training, held = split(cases)
    assert (len(cases), len(training), len(held)) == (120, 90, 30)
    assert not {case.name for case in training} & {case.name for case in held}
    assert [case.name for case in held] == [case.name for case in split(cases)[1]]
    first = cases[0]
    assert first.image.shape == first.label.shape
    assert set(np.unique(first.label)) == {0, 1, 2}
    # Right, anterior, superior in the file; left, posterior, superior in DICOM.
    assert np.array_equal(np.sign(np.diag(first.affine_lps))[:3], [-1, -1, 1])


def test_batches_are_repeatable_and_the_loss_prefers_the_truth() -> None:
    rng = np.random.default_rng(0)
    cases = []
    for n in range(3):
        image = rng.normal(100, 20, (30, 50, 34)).astype(np.float32)
        label = np.zeros(image.shape, np.int64)
        label[10:20, 10:30, 10:20], label[10:20, 30:40, 10:20] = 1, 2
        cases.append(Case(str(n), image, label, np.eye(4)))
    one, other = Batches(cases).next(), Batches(cases).next()
    assert one[0].shape == (BATCH, 1, *PATCH)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    right = torch.nn.functional.one_hot(one[1], 3).movedim(-1, 1).float() * 20
    assert loss_of(right, one[1]) < 0.05 < 1 < loss_of(-right, one[1])


def test_the_plans_are_what_the_converter_reads(tmp_path: Path) -> None:
    write_plans(tmp_path)
    plans = read_plans(tmp_path, CONFIGURATION)
    assert plans.labels == ("Anterior", "Posterior")
    assert described(tmp_path, plans)["options"]["orientation"] == "RAS"
    with torch.no_grad():
        assert NnUNet(plans.shape)(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)
