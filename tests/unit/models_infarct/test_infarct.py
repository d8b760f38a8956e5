"""The embedded baseline on phantoms with known truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.errors import BrainNotFound, InsufficientCoverage, LowSignalToNoise, OrganCutOff
from models.export.infarct_baseline import FOLDER, export
from models.model import Model
from models.phantom import LesionSpec, make_phantom
from models.ratio_terms import RELATIVE_DWI
from models.registry import Registry
from models.results import Laterality, Outcome
from tests.unit.models_infarct.agreement import dice, lesion_dice, marked, run, stray_regions


def test_graphs_are_rebuilt_byte_for_byte(tmp_path: Path, baseline: Model) -> None:
    digests = export(tmp_path)
    for name, graph in baseline.card.graphs.items():
        assert digests[name] == graph.sha256
        assert (tmp_path / graph.file).read_bytes() == (FOLDER / graph.file).read_bytes()
        stored = onnx.load(FOLDER / graph.file)
        assert stored.opset_import[0].version == graph.opset


@pytest.mark.parametrize("seed", [0, 9])
def test_lesions_are_found_measured_and_placed(seed: int, baseline: Model) -> None:
    phantom = make_phantom(seed)
    result = run(baseline, phantom)
    assert result.outcome is Outcome.FOUND
    assert result.segmentation is not None
    mask = result.segmentation.mask_zyx
    assert dice(mask > 0, phantom.truth_zyx > 0) >= 0.85
    assert stray_regions(result, phantom) == 0
    regions = result.segmentation.regions
    assert [r.number for r in regions] == list(range(1, len(regions) + 1)) == list(np.unique(mask)[1:])
    assert [r.volume_ml for r in regions] == sorted((r.volume_ml for r in regions), reverse=True)
    for region in regions:
        where = mask == region.number
        assert region.volume_ml == pytest.approx(np.count_nonzero(where) * phantom.dwi.voxel_ml)
        volume, adc, relative = region.quantities
        assert (volume.name.value, volume.unit.value, volume.value) == ("118565006", "mL", region.volume_ml)
        assert (adc.name.value, adc.name.meaning) == ("113041", "Apparent Diffusion Coefficient")
        assert adc.unit.value == "um2/s"
        assert 420 < adc.value < 660
        # By the phantom's own physics: S0 up to 1.5 times that of the tissue, and exp(-b ADC) of 520 instead of 770.
        assert (relative.name.value, relative.unit.value, relative.remark) == ("118586006", "1", RELATIVE_DWI)
        assert 1.1 < relative.value < 2.2
        assert where[region.key_slice].sum() == where.sum(axis=(1, 2)).max()
    assert result.total_ml == pytest.approx(sum(r.volume_ml for r in regions))


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique"])
@pytest.mark.parametrize("flipped", [False, True])
def test_side_is_that_of_the_patient(orientation: str, flipped: bool, baseline: Model) -> None:
    side = "right" if flipped else "left"
    phantom = make_phantom(11, orientation=orientation, flipped=flipped, lesions=[LesionSpec(15.0, side)])
    result = run(baseline, phantom)
    assert result.segmentation is not None
    assert result.segmentation.regions[0].laterality is Laterality(side)
    assert dice(marked(result, phantom) > 0, phantom.truth_zyx > 0) >= 0.85


def test_distractors_alone_are_not_reported(baseline: Model) -> None:
    phantom = make_phantom(101, lesions=[])
    assert phantom.distractor_zyx.any()
    result = run(baseline, phantom)
    assert result.outcome is Outcome.NOTHING_FOUND
    assert result.total_ml == 0.0
    assert result.detection_limit_ml is not None
    assert 0.5 <= result.detection_limit_ml <= 1.5
    assert {"baseline_not_validated", "subacute_missed"} <= set(result.limitations)
    assert result.evidence["reporting_threshold_ml"] == 0.05


def test_same_input_same_result_whatever_the_threads() -> None:
    phantom = make_phantom(6)
    one, two = (run(Registry(threads=n).get("infarct-adc-baseline"), phantom) for n in (1, 2))
    assert np.array_equal(marked(one, phantom), marked(two, phantom))
    assert one.evidence == two.evidence


def test_reporting_threshold_can_be_raised(baseline: Model) -> None:
    phantom = make_phantom(0)
    result = baseline.run({"dwi": phantom.dwi, "adc": phantom.adc}, {"reporting_threshold_ml": "10"})
    assert result.segmentation is not None
    assert len(result.segmentation.regions) == 1
    assert result.evidence["reporting_threshold_ml"] == 10.0


def test_skull_stripped_images_lose_nothing(baseline: Model) -> None:
    phantom = make_phantom(4, skull_stripped=True)
    result = run(baseline, phantom)
    assert result.evidence["skull_stripped"] is True
    assert dice(marked(result, phantom) > 0, phantom.truth_zyx > 0) >= 0.85


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (InsufficientCoverage, {"shape_zyx": (12, 128, 128), "head_scale": 1.0}),
        (OrganCutOff, {"centre_shift_mm": (0.0, 0.0, 45.0)}),
        (OrganCutOff, {"centre_shift_mm": (70.0, 0.0, 0.0)}),
        (LowSignalToNoise, {"noise": 0.3}),
    ],
)
def test_poor_images_are_not_called_clean(error: type[Exception], options: dict, baseline: Model) -> None:
    with pytest.raises(error):
        run(baseline, make_phantom(5, lesions=[], **options))


def test_findings_on_poor_images_are_reported_with_a_limitation(baseline: Model) -> None:
    result = run(baseline, make_phantom(5, centre_shift_mm=(0.0, 0.0, 35.0)))
    assert result.outcome is Outcome.FOUND
    assert "organ_cut_off" in result.limitations


def test_no_brain_is_refused(baseline: Model) -> None:
    phantom = make_phantom(5, lesions=[])
    empty = replace(phantom.dwi, array_zyx=np.zeros_like(phantom.dwi.array_zyx))
    with pytest.raises(BrainNotFound):
        baseline.run({"dwi": empty, "adc": phantom.adc}, {})
    wrong_unit = replace(phantom.adc, array_zyx=phantom.adc.array_zyx / 1000)
    with pytest.raises(BrainNotFound):
        baseline.run({"dwi": phantom.dwi, "adc": wrong_unit}, {})


@pytest.mark.slow
@pytest.mark.parametrize(("adc_scale", "count"), [(0.9, 8), (1.0, 20), (1.1, 8)])
def test_phantoms(adc_scale: float, count: int, baseline: Model) -> None:
    totals, lesions, stray = [], [], 0
    for seed in range(count):
        phantom = make_phantom(seed, adc_scale=adc_scale)
        result = run(baseline, phantom)
        totals.append(dice(marked(result, phantom) > 0, phantom.truth_zyx > 0))
        lesions += lesion_dice(result, phantom)
        stray += stray_regions(result, phantom)
    assert min(totals) >= 0.85
    assert round(min(lesions), 2) >= 0.85
    assert stray == 0


@pytest.mark.slow
def test_seeds_nobody_tuned_on(baseline: Model) -> None:
    totals, lesions, stray = [], [], 0
    for seed in range(1000, 1020):
        phantom = make_phantom(seed)
        result = run(baseline, phantom)
        totals.append(dice(marked(result, phantom) > 0, phantom.truth_zyx > 0))
        lesions += lesion_dice(result, phantom)
        stray += stray_regions(result, phantom)
    assert np.mean(totals) >= 0.85
    assert np.mean(lesions) >= 0.85
    assert stray == 0


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.05, 0.1])
def test_healthy_phantoms_stay_clean(noise: float, baseline: Model) -> None:
    for seed in range(200, 210):
        assert run(baseline, make_phantom(seed, lesions=[], noise=noise)).total_ml <= 0.05
