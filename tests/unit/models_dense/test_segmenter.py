"""Networks with a known answer label the right voxels, whatever the grid; what cannot be right is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from models.dense.segmenter import DenseSegmenter
from models.errors import CardInvalid, InferenceFailed
from models.model import Model
from models.results import Outcome
from models.volume import Volume
from tests.unit.models_dense.conftest import brightness_graph, half_graph, write_model


def volume(array: np.ndarray, spacing: tuple[float, float, float] = (2.0, 1.0, 1.0)) -> Volume:
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    return Volume(array.astype(np.float32), affine)


def blocks() -> np.ndarray:
    """Two bright boxes on a dark ground; 100, 400 and 800."""
    image = np.full((20, 30, 40), 100.0)
    image[4:10, 5:15, 8:20] = 400
    image[12:17, 18:26, 24:36] = 800
    return image


def known(folder: Path, **more: Any) -> Model:
    folder.mkdir()
    brightness_graph(folder / "main.onnx", (250, 600))
    return Model(write_model(folder, labels=("Grey", "White"), **more))


def test_labels_are_where_the_brightness_is(tmp_path: Path) -> None:
    image = blocks()
    result = known(tmp_path / "m").run({"image": volume(image)}, {})
    assert result.outcome is Outcome.FOUND
    assert result.segmentation is not None
    regions = {region.label: region for region in result.segmentation.regions}
    for name, value in (("Grey", 400), ("White", 800)):
        assert np.array_equal(result.segmentation.mask_zyx == regions[name].number, image == value)
        assert regions[name].volume_ml == pytest.approx((image == value).sum() * 2 / 1000)
    assert [region.number for region in result.segmentation.regions] == [1, 2]
    assert result.total_ml == pytest.approx((image > 100).sum() * 2 / 1000)


def test_resampled_and_cropped_labels_come_back_to_the_voxels(tmp_path: Path) -> None:
    image = blocks()
    image[:2] = image[:, :, :3] = 0
    options = {"spacing_mm": [1.0, 0.8, 1.3], "crop_to_nonzero": True}
    result = known(tmp_path / "m", options=options).run({"image": volume(image)}, {})
    assert result.segmentation is not None
    found = result.segmentation.mask_zyx > 0
    truth = image > 250
    assert found.shape == truth.shape
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    assert not found[:, :, :3].any()


@pytest.mark.parametrize(("axis", "letters"), [(2, "RAS"), (1, "RAS"), (0, "RAS"), (2, "LPS")])
def test_the_network_sees_the_patient_the_way_round_it_was_trained(tmp_path: Path, axis: int, letters: str) -> None:
    half_graph(tmp_path / "main.onnx", axis, 50)
    model = Model(write_model(tmp_path, labels=("Half",), options={"orientation": letters}))
    image = np.full((12, 14, 10), 100.0)
    result = model.run({"image": volume(image, (1.0, 1.0, 1.0))}, {})
    assert result.segmentation is not None
    zyx = np.argwhere(result.segmentation.mask_zyx > 0).mean(axis=0) - (np.array(image.shape) - 1) / 2
    # The volume's own axes run to left, posterior, superior; the network's upper half is where its letters point.
    towards = {"R": -1, "A": -1, "L": 1, "P": 1, "S": 1}[letters[2 - axis]]
    assert zyx[axis] * towards > 1
    assert np.abs(np.delete(zyx, axis)).max() < 1e-6


def test_regions_paint_over_one_another_in_order(tmp_path: Path) -> None:
    brightness_graph(tmp_path / "main.onnx", (250, 600))
    paint = [{"output": 1, "label": 2}, {"output": 2, "label": 1}]
    options = {"activation": "sigmoid", "paint": paint}
    image = blocks()
    result = Model(write_model(tmp_path, labels=("Inner", "Outer"), options=options)).run({"image": volume(image)}, {})
    assert result.segmentation is not None
    numbers = {region.label: region.number for region in result.segmentation.regions}
    # Output 2 is positive from (250 + 600) / 2 on.
    assert np.array_equal(result.segmentation.mask_zyx == numbers["Outer"], image == 400)
    assert np.array_equal(result.segmentation.mask_zyx == numbers["Inner"], image == 800)


@pytest.mark.parametrize("combine", ["mean_logits", "vote"])
def test_members_of_an_ensemble_are_combined(tmp_path: Path, combine: str) -> None:
    for name, step in (("main", 300), ("second", 500), ("third", 1000)):
        brightness_graph(tmp_path / f"{name}.onnx", (step,))
    members = ("main", "second", "third")
    model = Model(write_model(tmp_path, labels=("Bright",), members=members, options={"combine": combine}))
    image = np.linspace(0, 1500, 16 * 16 * 16).reshape(16, 16, 16)
    result = model.run({"image": volume(image)}, {})
    assert result.segmentation is not None
    least = image[result.segmentation.mask_zyx > 0].min()
    # The mean of the three lines crosses at 600; two of three say yes from 500 on.
    assert least == pytest.approx(600 if combine == "mean_logits" else 500, abs=1)


def test_small_labels_and_small_parts_are_left_out(tmp_path: Path) -> None:
    image = blocks()
    image[0, 0, 0] = 400
    kept = known(tmp_path / "m", options={"largest_part": [1], "smallest_ml": 0.97}).run({"image": volume(image)}, {})
    assert kept.segmentation is not None
    assert [region.label for region in kept.segmentation.regions] == ["Grey"]
    assert kept.segmentation.mask_zyx[0, 0, 0] == 0


def test_nothing_bright_is_nothing_found(tmp_path: Path) -> None:
    result = known(tmp_path / "m").run({"image": volume(np.full((8, 8, 8), 10.0))}, {})
    assert (result.outcome, result.segmentation, result.total_ml) == (Outcome.NOTHING_FOUND, None, 0.0)


@pytest.mark.parametrize("how", ["refuse", "resample", "rigid"])
def test_a_second_series_on_another_grid(tmp_path: Path, how: str) -> None:
    brightness_graph(tmp_path / "main.onnx", (250,), channels=2)
    options = {"co_register": how}
    model = Model(write_model(tmp_path, labels=("Bright",), roles=("one", "two"), options=options))
    fine = np.pad(blocks(), 4, constant_values=0) + 0.0
    coarse = Volume(fine[:, ::2, ::2].astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
    inputs = {"one": volume(fine), "two": coarse}
    if how == "refuse":
        with pytest.raises(InferenceFailed, match="another grid"):
            model.run(inputs, {})
        return
    result = model.run(inputs, {})
    assert result.segmentation is not None
    assert np.array_equal(result.segmentation.mask_zyx > 0, fine > 250)
    away = Volume(coarse.array_zyx, coarse.affine_lps @ _shift(300))
    if how == "resample":
        with pytest.raises(InferenceFailed, match="covers only"):
            model.run({"one": volume(fine), "two": away}, {})
    with pytest.raises(InferenceFailed, match="missing"):
        model.run({"one": volume(fine)}, {})


def _shift(columns: float) -> np.ndarray:
    made = np.eye(4)
    made[0, 3] = columns
    return made


def test_a_rigid_shift_between_contrasts_is_undone() -> None:
    from models.dense.stacking import stacked

    z, y, x = np.indices((24, 32, 32))
    head = ((z - 12) / 9) ** 2 + ((y - 16) / 13) ** 2 + ((x - 15) / 11) ** 2 < 1
    inner = ((z - 11) / 4) ** 2 + ((y - 19) / 5) ** 2 + ((x - 12) / 4) ** 2 < 1
    one = volume(np.where(inner, 900.0, np.where(head, 400.0, 0.0)), (2.0, 2.0, 2.0))
    other = np.where(inner, 100.0, np.where(head, 600.0, 0.0))
    moved = np.diag([2.0, 2.0, 2.0, 1.0])
    moved[:3, 3] = (6.0, -4.0, 2.0)
    made = stacked({"a": one, "b": Volume(other.astype(np.float32), moved)}, ("a", "b"), "rigid")
    found = (made[1] > 50) & (made[1] < 350) & head
    assert 2 * (found & inner).sum() / (found.sum() + inner.sum()) > 0.7
    apart = np.abs(made[1] - other)[head].mean()
    assert apart < 40


@pytest.mark.parametrize("where", ["own_grid", "network_grid"])
def test_channels_are_normalised_where_the_card_says(tmp_path: Path, where: str) -> None:
    """A bright plane between dark ones: half as bright beside it after resampling, and clipped before or after."""
    brightness_graph(tmp_path / "main.onnx", (0.75,))
    channel = {"role": "image", "normalise": "range", "low": 0.0, "high": 100.0}
    options = {"grid": "first_voxel", "image_spline": 1, "coarse_axis": "together", "normalise_on": where}
    options |= {"spacing_mm": [1.0, 1.0, 1.0], "channels": [channel]}
    model = Model(write_model(tmp_path, labels=("Bright",), options=options))
    image = np.zeros((6, 8, 8))
    image[3] = 200
    answer = DenseSegmenter(model)._answered({"image": volume(image)}).answer
    bright = (answer[1] > answer[0]).any((1, 2))
    # Halfway to its neighbours it has 100 of 200: all of the range, where it was not clipped before.
    assert list(np.flatnonzero(bright)) == ([6] if where == "own_grid" else [5, 6, 7])


def test_only_what_lies_elsewhere_is_moved() -> None:
    from models.dense.stacking import stacked

    rng = np.random.default_rng(1)
    head = ndimage.gaussian_filter(rng.normal(size=(20, 28, 28)), 2.0) * 900 + 500
    one, beside = volume(head, (2.0, 2.0, 2.0)), volume(np.roll(head, 3, 2), (2.0, 2.0, 2.0))
    turned = Volume(one.array_zyx[:, ::-1].copy(), np.diag([2.0, -2.0, 2.0, 1.0]) @ np.eye(4))
    turned.affine_lps[1, 3] = 2.0 * 27
    made = stacked({"a": one, "b": beside, "c": turned}, ("a", "b", "c"), "rigid_elsewhere")
    assert np.array_equal(made[1], beside.array_zyx)
    assert np.abs(made[2] - one.array_zyx)[3:-3, 3:-3, 3:-3].mean() < 0.1 * np.std(head)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"orientation": "XYZ"}, "orientation"),
        ({"members": ["main", "other"]}, "no graph named other"),
        ({"channels": [{"role": "flair", "normalise": "none"}]}, "no input named flair"),
        ({"largest_part": [3]}, "one for each value"),
        ({"spacing_mm": [1.0, 1.0]}, "spacing_mm"),
        ({"activation": "sigmoid"}, "paint"),
        ({"window": {"size": [16, 16, 0]}}, "at least one voxel"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_cards_that_make_no_sense_are_refused(tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(CardInvalid, match=words):
        known(tmp_path / "m", options=options).run({"image": volume(blocks())}, {})


def test_a_network_with_other_classes_than_the_card_is_refused(tmp_path: Path) -> None:
    brightness_graph(tmp_path / "main.onnx", (250, 600))
    model = Model(write_model(tmp_path, labels=("Only",)))
    with pytest.raises(InferenceFailed, match="3 classes"):
        model.run({"image": volume(blocks())}, {})
    bad = blocks()
    bad[0, 0, 0] = np.nan
    with pytest.raises(InferenceFailed, match="NaN"):
        model.run({"image": volume(bad)}, {})
