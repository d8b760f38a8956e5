"""The infarct network's recipe: implants are what they say, the same seed gives the same, and the card matches the training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from models.card import Card
from models.errors import ReferenceDoubtful
from models.export import infarct_training as training
from models.export.infarct_baseline import FOLDER as RULES_FOLDER
from models.export.infarct_implants import (
    Head,
    as_other_scanner,
    implanted,
    phantom_head,
    read_head,
    with_decoys,
    with_iron,
)
from models.export.infarct_network import untrained, write_model
from models.export.infarct_pool import HEAVIEST, Pool, drawn_head, prepared, weighted
from models.export.infarct_table import BASELINE, NEEDS_MEDSAM, dice, lesion_f1, main, model_finder
from models.export.infarct_unet import InfarctUNet
from models.export.infarct_variety import bent
from models.model import Model
from models.morphology import CUBE
from models.phantom import make_phantom
from models.registry import Registry


@pytest.fixture(scope="module")
def healthy() -> Head:
    made = make_phantom(3, shape_zyx=(20, 64, 64), spacing_mm_zyx=(7.0, 3.0, 3.0), lesions=[], noise=0.03)
    return Head("phantom", made.dwi, made.adc, made.brain_zyx, np.zeros_like(made.brain_zyx))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The model that heads are prepared by."""
    return untrained(tmp_path_factory.mktemp("untrained"))


@pytest.mark.parametrize("volume_ml", [0.3, 10.0, 120.0])
def test_an_implant_has_its_volume_and_obeys_the_diffusion_law(healthy: Head, volume_ml: float) -> None:
    made = implanted(healthy, np.random.default_rng(5), volume_ml)
    assert made.infarct_ml == pytest.approx(volume_ml, abs=3 * healthy.dwi.voxel_ml)
    core = made.truth_zyx
    assert made.adc.array_zyx[core].mean() < 0.9 * healthy.adc.array_zyx[core].mean()
    # S0 = DWI * exp(b * ADC): it may rise by what the implant adds to T2, up to 1.7, and by nothing else.
    b = 1e-6 * healthy.dwi.facts["b_value"]
    before, after = (
        each.dwi.array_zyx.astype(float) * np.exp(b * each.adc.array_zyx.astype(float)) for each in (healthy, made)
    )
    ratio = after / before
    assert ratio.min() > 0.999
    assert ratio.max() < 1.701
    far = ~ndimage.binary_dilation(core, iterations=5)
    assert np.allclose(made.dwi.array_zyx[far], healthy.dwi.array_zyx[far], rtol=1e-5)


def test_iron_is_dark_on_dwi_and_low_on_adc(healthy: Head) -> None:
    made = with_iron(healthy, np.random.default_rng(2))
    changed = np.abs(made.adc.array_zyx - healthy.adc.array_zyx) > 50
    assert changed.any() and not made.truth_zyx.any()
    assert (made.adc.array_zyx[changed] < healthy.adc.array_zyx[changed]).all()
    assert (made.dwi.array_zyx[changed] < healthy.dwi.array_zyx[changed]).all()


def test_the_same_seed_gives_the_same_heads(healthy: Head) -> None:
    def heads(seed: int) -> list[Head]:
        rng = np.random.default_rng(seed)
        made = as_other_scanner(with_decoys(implanted(healthy, rng, 4.0), rng), rng)
        return [made, phantom_head(seed), phantom_head(seed, healthy=True)]

    for one, other in zip(heads(8), heads(8), strict=True):
        assert np.array_equal(one.dwi.array_zyx, other.dwi.array_zyx)
        assert np.array_equal(one.adc.array_zyx, other.adc.array_zyx)
        assert np.array_equal(one.truth_zyx, other.truth_zyx)
    assert not np.array_equal(heads(8)[0].truth_zyx, heads(9)[0].truth_zyx)
    assert heads(8)[1].truth_zyx.any()
    assert not heads(8)[2].truth_zyx.any()


def test_a_bent_head_comes_again_and_stays_where_it_lies(healthy: Head) -> None:
    one, again, other = (bent(healthy, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one.dwi.array_zyx, again.dwi.array_zyx)
    assert one.dwi.array_zyx.shape != other.dwi.array_zyx.shape or not np.array_equal(
        one.dwi.array_zyx, other.dwi.array_zyx
    )
    for made in (one, other):
        assert made.dwi.same_grid(made.adc)
        # Zoomed by 0.88 to 1.14 along each axis.
        assert 0.6 < _ml(made.brain_zyx, made) / _ml(healthy.brain_zyx, healthy) < 1.6
        assert np.abs(_middle_lps(made) - _middle_lps(healthy)).max() < 12
        # No ADC between CSF and nothing: tissue keeps its own.
        inner = ndimage.binary_erosion(made.brain_zyx, iterations=2)
        low = np.percentile(made.adc.array_zyx[inner], 2)
        assert low > np.percentile(healthy.adc.array_zyx[healthy.brain_zyx], 1) - 60


def _ml(mask: np.ndarray, head: Head) -> float:
    return float(np.count_nonzero(mask)) * head.dwi.voxel_ml


def _middle_lps(head: Head) -> np.ndarray:
    middle = np.argwhere(head.brain_zyx).mean(axis=0)[::-1]
    return head.dwi.affine_lps[:3, :3] @ middle + head.dwi.affine_lps[:3, 3]


def test_small_infarcts_count_more(healthy: Head) -> None:
    made = implanted(implanted(healthy, np.random.default_rng(1), 60.0), np.random.default_rng(8), 0.3)
    weights = weighted(made)
    assert np.array_equal(weights > 0, made.truth_zyx)
    parts, count = ndimage.label(made.truth_zyx, structure=CUBE)
    by_part = {int(np.count_nonzero(parts == n)): set(np.unique(weights[parts == n])) for n in range(1, count + 1)}
    assert all(len(each) == 1 for each in by_part.values())
    assert by_part[max(by_part)] == {1}
    assert max(by_part[min(by_part)]) == HEAVIEST


def test_the_rules_in_the_card_are_those_of_the_threshold_model() -> None:
    rules, network = Card.load(RULES_FOLDER), Registry([], threads=1).get("infarct-network").card
    steps = [each for each in rules.postprocessing if each.step != "label_regions"]
    steps = steps[: 1 + max(n for n, each in enumerate(steps) if each.step.startswith("drop"))]
    count = len(rules.preprocessing)
    assert network.preprocessing[:count] == rules.preprocessing
    assert network.preprocessing[count].parameters == {"graph": "scores"}
    assert list(network.preprocessing[count + 1 : count + 1 + len(steps)]) == steps
    # The subacute mode is the rules' own.
    acute = {name: value for name, value in rules.thresholds.items() if not name.startswith("subacute")}
    assert acute.items() <= network.thresholds.items()
    assert rules.suitability == network.suitability
    for theirs, ours in (("smooth", "smooth"), ("evidence", "evidence"), ("main", "scores")):
        assert rules.graphs[theirs].sha256 == network.graphs[ours].sha256


def test_untrained_it_marks_what_the_threshold_model_marks(healthy: Head, start: Model) -> None:
    baseline = model_finder(Registry([], threads=1).get(BASELINE))
    head = implanted(healthy, np.random.default_rng(1), 30.0)
    expected, found = baseline(head), model_finder(start)(head)
    assert expected is not None and expected.any()
    assert found is not None and np.array_equal(found, expected)


def test_what_it_would_begin_of_its_own_is_not_marked_and_much_of_it_is_a_doubt(healthy: Head, tmp_path: Path) -> None:
    network = InfarctUNet().eval()
    torch.nn.init.constant_(network.head.get_parameter("bias"), 9.0)  # the network would mark everything
    write_model(network, tmp_path, {"weights": "none"})
    with pytest.raises(ReferenceDoubtful, match="mL"):
        Model(tmp_path, threads=1).run({"dwi": healthy.dwi, "adc": healthy.adc}, {})


def test_the_pool_keeps_what_it_made(healthy: Head, start: Model, tmp_path: Path) -> None:
    (first,) = Pool(tmp_path, start, 5).of_scan(healthy, 1)
    fresh = prepared(start, drawn_head(healthy, 5, 0))
    assert np.array_equal(first.image, fresh.image) and np.array_equal(first.truth, fresh.truth)
    assert first.truth.shape == first.image.shape[1:]
    paths = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(paths) == 2
    list(Pool(tmp_path, start, 5).of_scan(healthy, 1))
    assert paths == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


@pytest.mark.slow
def test_training_is_deterministic_and_leaves_a_model_that_runs(healthy: Head, start: Model, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    ready = [prepared(start, implanted(healthy, np.random.default_rng(1), 30.0))]
    (network, log), (_, again) = (training.train(ready, 4, 2) for _ in range(2))
    assert [each["loss"] for each in log] == [each["loss"] for each in again]
    card, graph = write_model(network, tmp_path, {"weights": "two steps"})
    assert max(graph.differences) < 1e-4
    assert len(graph.differences) == 2
    model = Model(tmp_path, threads=1)
    model.verify()
    assert max(model.self_test().values()) < 1e-3
    assert model_finder(model)(healthy) is not None
    assert card.id == "infarct-network"
    assert not card.clinical
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10e6


def test_a_scan_is_read_back(healthy: Head, tmp_path: Path) -> None:
    b_value = np.array(healthy.dwi.facts["b_value"])
    path = tmp_path / "one.npz"
    dwi, adc = healthy.dwi, healthy.adc
    np.savez(path, dwi=dwi.array_zyx, adc=adc.array_zyx, affine_lps=dwi.affine_lps, b_value=b_value)
    head = read_head(path)
    assert head.scanner == "one"
    assert head.dwi.same_grid(dwi)
    assert dice(head.brain_zyx, healthy.brain_zyx) > 0.85


def test_figures_of_the_tables() -> None:
    truth = np.zeros((3, 9, 9), bool)
    truth[1, 1:3, 1:3] = truth[1, 6:8, 6:8] = True
    found = np.zeros_like(truth)
    found[1, 1:3, 1:4] = True
    assert dice(found, truth) == pytest.approx(2 * 4 / (6 + 8))
    assert lesion_f1(found, truth) == pytest.approx(2 / 3)
    found[1, 4, 8] = True
    assert lesion_f1(found, truth) == pytest.approx(2 / 4)
    empty = np.zeros_like(truth)
    assert dice(empty, empty) == lesion_f1(empty, empty) == 1.0
    assert lesion_f1(empty, truth) == 0.0


@pytest.mark.slow
def test_rows_without_weights_say_what_fills_them(
    healthy: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["table", str(tmp_path), str(tmp_path / "out.json"), "--phantoms", "1"])
    main()
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]["phantoms"]
    assert rows["oracle boxes + promptable"] == rows["automatic boxes + promptable"] == NEEDS_MEDSAM
    assert rows["threshold"]["n"] == 1
    assert "--network" in rows["volumetric network"]
