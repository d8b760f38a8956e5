"""Models trained on stripped brains: the node strips them, by the scanner's own scale, and nothing outside gets a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.dense.channels import normalised
from models.dense.options import BrainOnly, Channel
from models.dense.stripping import brain_only, levelled
from models.errors import BrainNotFound, CardInvalid
from models.model import Model
from models.phantom import LesionSpec, Phantom, make_phantom
from models.volume import Volume
from tests.unit.models_dense.conftest import brightness_graph, write_model

DWI = Channel(role="dwi", normalise="tissue_ratio", high=6.0, mean=1.0, spread=0.5)
ADC = Channel(role="adc", normalise="tissue_ratio", high=3.0, mean=1.0, spread=0.5)
BRAIN = BrainOnly(dwi="dwi", adc="adc")


@pytest.fixture(scope="module")
def head() -> Phantom:
    lesions = (LesionSpec(20.0, "left"),)
    return make_phantom(4, shape_zyx=(20, 64, 64), spacing_mm_zyx=(7.0, 3.0, 3.0), lesions=lesions, noise=0.03)


def channels(head: Phantom, *, scale: float = 1.0, adc_scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The network's channels of a head as a scanner of another scale shows it, and the brain found."""
    stack = np.stack([head.dwi.array_zyx * np.float32(scale), head.adc.array_zyx * np.float32(adc_scale)])
    stripped, brain = brain_only(stack, ["dwi", "adc"], BRAIN, head.dwi.spacing_mm_zyx)
    return normalised(stripped, [DWI, ADC], (stripped != 0).any(axis=0)), brain


def test_a_scanner_s_scale_cancels(head: Phantom) -> None:
    plain, brain = channels(head)
    scaled, same = channels(head, scale=7.0, adc_scale=0.92)
    both = brain & same
    # The envelope goes by what ADC is like tissue's, so its rim may move.
    assert np.count_nonzero(brain ^ same) < 0.05 * np.count_nonzero(brain)
    assert np.abs(plain - scaled)[:, both].max() < 0.02


def test_the_coil_s_profile_is_taken_out_and_an_infarct_is_not(head: Phantom) -> None:
    _, brain = channels(head)
    signal, adc = head.dwi.array_zyx * brain, head.adc.array_zyx
    core = (head.truth_zyx > 0) & brain
    towards_the_back = np.linspace(-0.5, 0.5, signal.shape[1], dtype=np.float32)[None, :, None]
    plain, bent = (
        levelled(each, adc, brain, head.dwi.spacing_mm_zyx) for each in (signal, signal * np.exp(towards_the_back))
    )
    assert not plain[~brain].any()
    changed = np.abs(np.log(np.maximum(bent, 1e-3) / np.maximum(plain, 1e-3)))[brain]
    # Where the signal was bent by up to a factor of 1.6 either way.
    assert np.percentile(changed, 95) < 0.05
    assert float(np.median(plain[core])) > 1.4
    assert float(np.median(plain[brain & ~core])) == pytest.approx(1, abs=0.05)


def test_normal_tissue_is_at_zero_and_an_infarct_is_not(head: Phantom) -> None:
    image, brain = channels(head)
    core = (head.truth_zyx > 0) & brain
    adc = image[1]
    assert np.count_nonzero(core) > 100
    assert abs(float(np.median(adc[brain & ~core]))) < 0.2
    assert float(np.median(adc[core])) < -0.5
    assert float(np.median(image[0][core])) > 0.5


def test_outside_the_brain_is_zero(head: Phantom) -> None:
    image, brain = channels(head)
    assert np.count_nonzero(head.dwi.array_zyx[~brain]) > 1000
    assert not image[:, ~brain].any()


def test_no_label_lies_outside_the_brain(tmp_path: Path, head: Phantom) -> None:
    # The network says yes to everything, background too.
    brightness_graph(tmp_path / "main.onnx", (-1e6,), channels=2)
    inputs = {"dwi": head.dwi, "adc": head.adc}
    labels = _model(tmp_path, brain=BRAIN.model_dump()).run(inputs, {}).segmentation
    _, brain = channels(head)
    assert labels is not None
    assert np.array_equal(labels.mask_zyx > 0, brain)


def test_images_without_a_brain_are_refused(tmp_path: Path, head: Phantom) -> None:
    brightness_graph(tmp_path / "main.onnx", (-1e6,), channels=2)
    empty = Volume(np.zeros_like(head.dwi.array_zyx), head.dwi.affine_lps)
    with pytest.raises(BrainNotFound):
        _model(tmp_path, brain=BRAIN.model_dump()).run({"dwi": empty, "adc": head.adc}, {})


def test_a_card_that_strips_by_an_input_it_lacks_is_refused(tmp_path: Path, head: Phantom) -> None:
    brightness_graph(tmp_path / "main.onnx", (1.0,), channels=2)
    model = _model(tmp_path, brain={"dwi": "dwi", "adc": "adcx"})
    with pytest.raises(CardInvalid, match=r"options\.brain"):
        model.run({"dwi": head.dwi, "adc": head.adc}, {})


def _model(folder: Path, **options: Any) -> Model:
    given = {"channels": [each.model_dump() for each in (DWI, ADC)], **options}
    return Model(write_model(folder, labels=("All",), roles=("dwi", "adc"), options=given))
