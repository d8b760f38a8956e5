"""A head learns what the embedding holds, is measured on patients it has not seen, and runs as any other model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.embedding import Embedder
from models.errors import TooFewImages
from models.model import Model
from models.volume import Volume

pytest.importorskip("sklearn", reason="training needs scikit-learn")
pytest.importorskip("onnx", reason="training needs onnx")

from models.export.head_fit import area_under_roc, fit, split
from models.export.train_head import Labelled, train_head

BRIGHT_LEFT = "Bright left half"
PNEUMOTHORAX = "Pneumothorax (SCT 36118008)"


def images(count: int, seed: int) -> tuple[list[Volume], list[str], list[int]]:
    """Noise, its left half brighter in every second image; two images a patient."""
    rng = np.random.default_rng(seed)
    made, patients, truth = [], [], []
    for n in range(count):
        pixels = rng.normal(120, 30, (1, 48, 40))
        positive = (n // 2) % 2
        pixels[0, :, :20] += 25 * positive + rng.normal(0, 12)
        made.append(Volume(np.clip(pixels, 0, 255).astype(np.float32), np.eye(4), facts={"maximum_value": 255}))
        patients.append(f"p{n // 2}")
        truth.append(positive)
    return made, patients, truth


def labelled(count: int = 80, seed: int = 0, **more: Sequence[int]) -> Labelled:
    made, patients, truth = images(count, seed)
    return Labelled(made, patients, {BRIGHT_LEFT: truth, **more}, "0" * 64)


def test_the_head_runs_and_says_what_it_is_worth(tmp_path: Path, backbone: Model) -> None:
    folder = tmp_path / "head"
    folder.mkdir()
    unknown = [-1 if n % 5 == 0 else (n // 2) % 2 for n in range(80)]
    log = train_head(
        backbone, labelled(**{PNEUMOTHORAX: unknown}), folder, model_id="site-head", title="Bright halves", seed=4
    )
    held = log["findings"][BRIGHT_LEFT]["held_back"]
    assert held["patients"] == 12
    assert log["findings"][BRIGHT_LEFT]["trained_on"]["patients"] == 28
    assert (
        log["findings"][PNEUMOTHORAX]["trained_on"]["images"] + log["findings"][PNEUMOTHORAX]["held_back"]["images"]
        == 64
    )
    assert held["auc_95"][0] <= held["auc"] <= held["auc_95"][1]
    assert held["auc"] > 0.85
    assert json.loads((folder / "training.json").read_text()) == json.loads(json.dumps(log))
    assert "p1" not in (folder / "training.json").read_text()
    model = Model(folder)
    assert model.self_test()["main"] < 1e-5
    assert model.card.evidence["held_back"][BRIGHT_LEFT]["auc"] == held["auc"]
    assert model.card.options["findings"][1]["concept"] == {
        "value": "36118008",
        "scheme": "SCT",
        "meaning": "Pneumothorax",
    }
    fresh, _, truth = images(200, 77)
    scores = np.array([model.run({"image": each}, {}).findings[0].probability for each in fresh])
    assert area_under_roc(np.array(truth), scores) == pytest.approx(held["auc"], abs=0.12)
    # Calibrated: it says so often as it is so.
    assert scores.mean() == pytest.approx(0.5, abs=0.1)
    present = [model.run({"image": each}, {}).findings[0].present for each in fresh]
    assert (np.array(present) == np.array(truth)).mean() > 0.75


def test_the_joined_graph_is_the_regression_on_the_embedding(tmp_path: Path, backbone: Model) -> None:
    folder = tmp_path / "head"
    folder.mkdir()
    data = labelled()
    train_head(backbone, data, folder, model_id="site-head", title="t", preprocessing="upside", seed=1)
    embedder = Embedder(backbone)
    vectors = np.stack([embedder.embedding(each, "upside") for each in data.images])
    head = fit(vectors, np.array(data.findings[BRIGHT_LEFT]), np.array(data.patients), BRIGHT_LEFT, 1)
    expected = 1 / (1 + np.exp(-(vectors[7] @ head.weights + head.bias)))
    model = Model(folder)
    assert model.card.provenance["preprocessing"] == "upside"
    assert model.run({"image": data.images[7]}, {}).findings[0].probability == pytest.approx(expected, abs=1e-4)
    again = tmp_path / "again"
    again.mkdir()
    train_head(backbone, data, again, model_id="site-head", title="t", preprocessing="upside", seed=1)
    assert Model(again).digest == model.digest


def test_a_patient_is_never_on_both_sides() -> None:
    patients = np.array([f"p{n // 3}" for n in range(60)])
    held = split(patients, 5)
    assert not set(patients[held]) & set(patients[~held])
    assert len(set(patients[held])) == 6


def test_labels_that_mean_nothing_are_found_out() -> None:
    rng = np.random.default_rng(0)
    vectors, truth = rng.normal(size=(160, 5)).astype(np.float32), rng.integers(0, 2, 160)
    held = fit(vectors, truth, np.array([f"p{n}" for n in range(160)]), "noise", 0).log["held_back"]
    assert held["auc_95"][0] < 0.5 < held["auc_95"][1]


def test_too_few_patients_are_refused() -> None:
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    patients = np.array(["a", "a", "a", "a", "b", "c", "d", "e"])
    with pytest.raises(TooFewImages, match="with it"):
        fit(np.zeros((8, 2), np.float32), truth, patients, "x", 0)


def test_the_area_counts_ties_half() -> None:
    assert area_under_roc(np.array([0, 1, 0, 1]), np.array([0.1, 0.1, 0.2, 0.9])) == pytest.approx(0.625)
